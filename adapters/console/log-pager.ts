import { type ReadLog, readRange } from "../client/log-bytes.ts";
import { LogWindow } from "./log-window.ts";
import type { ShownLog } from "./shown-log.ts";

/** How much of a log is read at once, in bytes. */
export const PAGE_BYTES = 131_072;

export type LogPager = ReturnType<typeof logPager>;

/** Moves the shown part of a log: to another place, or by a page up or down. */
export function logPager(read: ReadLog, shown: ShownLog) {
  const { state, change } = shown;
  let isBusy = false;

  /** Shows the lines around `byte`, from a line's start unless that is far away. Throws what `read` throws. */
  async function show(byte: number, isFollowing: boolean): Promise<void> {
    const isWanted = shown.jump();
    const start = Math.max(0, byte - (byte > 0 ? PAGE_BYTES / 2 : 0));
    const page = await read({ after: start, maxBytes: PAGE_BYTES });
    if (!isWanted()) return;
    const window = new LogWindow(start);
    window.fill(page.bytes, byte);
    window.dropPartialLine();
    change({ window, size: page.size, isRead: true, isFollowing });
  }

  /** Does `work`; a failure becomes part of the state. */
  async function guard(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      change({ error: error as Error });
    }
  }

  /** Reads one page at a time: scrolling asks again and again. */
  async function alone(work: () => Promise<void>): Promise<void> {
    if (isBusy) return;
    isBusy = true;
    await guard(work);
    isBusy = false;
  }

  return {
    show,

    /** Shows the lines around `byte`, and stops following. */
    goTo: (byte: number): Promise<void> => guard(() => show(byte, false)),

    /** Shows the last lines as of now. */
    goToEnd: (): Promise<void> =>
      guard(async () => {
        const { window, size } = state.get();
        if (window.end < size) await show((await read({ after: 0, maxBytes: 1 })).size, true);
      }),

    /** Adds the page before the window, and stops following. */
    async readBefore(): Promise<void> {
      const { start, lines } = state.get().window;
      if (start === 0 || lines.length === 0) return;
      await alone(async () => {
        const isWanted = shown.stays();
        const after = Math.max(0, start - PAGE_BYTES);
        const bytes = await readRange(read, after, start);
        const { window } = state.get();
        if (bytes.length < start - after || !isWanted() || window.start !== start) return;
        const next = window.copy();
        next.prepend(bytes);
        if (after > 0) next.dropPartialLine();
        change({ window: next, isFollowing: false });
      });
    },

    /** Adds the page after the window. */
    async readAfter(): Promise<void> {
      await alone(async () => {
        const isWanted = shown.stays();
        const { end } = state.get().window;
        const page = await read({ after: end, maxBytes: PAGE_BYTES });
        if (isWanted() && state.get().window.end === end) shown.append(page, "nearest");
      });
    },
  };
}
