import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

interface FactProps {
  name: string;
  width?: "half" | "full";
  children: ComponentChildren;
}

/** A name and its value in a list of facts. A value that is longer than its place can be scrolled with the keyboard. */
export function Fact({ name, width, children }: FactProps) {
  const place = useRef<HTMLDivElement>(null);
  const value = useRef<HTMLElement>(null);
  useEffect(() => {
    if (width !== "full") return undefined;
    const scrolled = place.current!;
    const observer = new ResizeObserver(() => {
      if (scrolled.scrollHeight > scrolled.clientHeight) scrolled.tabIndex = 0;
      else scrolled.removeAttribute("tabindex");
    });
    observer.observe(value.current!);
    return () => observer.disconnect();
  }, [width]);
  return (
    <div class={width} ref={place}>
      <dt>{name}</dt>
      <dd ref={value}>{children}</dd>
    </div>
  );
}
