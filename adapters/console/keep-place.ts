import { useLayoutEffect, useRef } from "preact/hooks";

import type { LogReader } from "./log-reader.ts";

/** At this distance from an edge, in pixels, more is read. */
const NEAR = 600;
const AT_END = 4;

/**
 * Keeps the scroll position while lines are added and removed at either end: at the
 * end while following, otherwise at the first visible line.
 */
export function useKeepPlace(box: { current: HTMLDivElement | null }, reader: LogReader) {
  const { window, isFollowing } = reader.state.get();
  const anchor = useRef<{ start: number; offset: number } | undefined>(undefined);
  const lastTop = useRef(0);

  useLayoutEffect(() => {
    const scroller = box.current!;
    if (isFollowing) {
      scroller.scrollTop = scroller.scrollHeight;
    } else if (anchor.current) {
      const { start, offset } = anchor.current;
      const line = scroller.querySelector<HTMLElement>(`[data-start="${start}"]`);
      if (line) scroller.scrollTop = line.offsetTop - offset;
    }
    lastTop.current = scroller.scrollTop;
    anchor.current = topLine(scroller);
  }, [window, isFollowing]);

  return {
    onScroll() {
      const scroller = box.current!;
      const { scrollTop, scrollHeight, clientHeight } = scroller;
      const isUpwards = scrollTop < lastTop.current;
      lastTop.current = scrollTop;
      anchor.current = topLine(scroller);
      const below = scrollHeight - scrollTop - clientHeight;
      if (isUpwards && below > AT_END) reader.stopFollowing();
      if (scrollTop < NEAR) void reader.readBefore();
      if (below < NEAR) void reader.readAfter(!isUpwards && below <= AT_END);
    },
  };
}

/** The first visible line, and how far below the upper edge it starts, in pixels. */
function topLine(scroller: HTMLElement): { start: number; offset: number } | undefined {
  const lines = scroller.querySelector(".lines")?.children;
  if (!lines?.length) return undefined;
  let low = 0;
  let high = lines.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    const line = lines[middle] as HTMLElement;
    if (line.offsetTop + line.offsetHeight > scroller.scrollTop) high = middle;
    else low = middle + 1;
  }
  const line = lines[low] as HTMLElement;
  return { start: Number(line.dataset["start"]), offset: line.offsetTop - scroller.scrollTop };
}
