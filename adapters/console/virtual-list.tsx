import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

interface VirtualListProps<T> {
  class: string;
  items: readonly T[];
  rowHeight: number;
  role: "rowgroup" | "region";
  "aria-label": string;
  onKeyDown?: (event: KeyboardEvent) => void;
  /** Draws the item at an index; its root element must be `rowHeight` pixels high. */
  row(item: T, index: number): ComponentChildren;
  /** Called when the user scrolls near the end. */
  onNearEnd?: () => void;
}

const SPARE_ROWS = 12;

/** A scrolling list of any length, of which only the visible rows are in the document. */
export function VirtualList<T>({ items, rowHeight, row, onNearEnd, ...attributes }: VirtualListProps<T>) {
  const scroller = useRef<HTMLDivElement>(null);
  const [seen, setSeen] = useState({ top: 0, height: 800 });

  const measure = () => {
    if (!scroller.current) return;
    const { scrollTop, clientHeight } = scroller.current;
    setSeen((old) =>
      old.top === scrollTop && old.height === clientHeight ? old : { top: scrollTop, height: clientHeight },
    );
  };
  useLayoutEffect(measure);
  useEffect(() => {
    const observer = new ResizeObserver(measure);
    observer.observe(scroller.current!);
    return () => observer.disconnect();
  }, []);

  const first = Math.max(0, Math.floor(seen.top / rowHeight) - SPARE_ROWS);
  const last = Math.min(items.length, Math.ceil((seen.top + seen.height) / rowHeight) + SPARE_ROWS);
  const isNearEnd = last >= items.length - SPARE_ROWS;
  useEffect(() => {
    if (isNearEnd) onNearEnd?.();
  }, [isNearEnd, items.length]);

  return (
    <div {...attributes} ref={scroller} onScroll={measure} tabIndex={0}>
      <div class="spacer" role="presentation" style={{ height: `${items.length * rowHeight}px` }}>
        <div role="presentation" style={{ transform: `translateY(${first * rowHeight}px)` }}>
          {items.slice(first, last).map((item, i) => row(item, first + i))}
        </div>
      </div>
    </div>
  );
}
