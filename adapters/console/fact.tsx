import type { ComponentChildren } from "preact";

interface FactProps {
  name: string;
  width?: "half" | "full";
  children: ComponentChildren;
}

/** A name and its value in a list of facts. */
export function Fact({ name, width, children }: FactProps) {
  return (
    <div class={width}>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
