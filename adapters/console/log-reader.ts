import { MAX_LOG_PAGE_BYTES } from "../../host-agent/protocol/limits.ts";
import { ApiError, type LogBytes, pauseBeforeRetry, type ReadLog } from "./api.ts";
import { pause, seen } from "./hooks.ts";
import { joined, LogWindow } from "./log-window.ts";
import { createStore } from "./store.ts";

const PAGE_BYTES = 131_072;
/** A log that grows faster than we read is followed at its end, with a gap in what is shown. */
const MAX_LAG_BYTES = 1_048_576;
const WAIT_SECONDS = 25;
const MIN_POLL_MS = 250;

/** What is shown of a log. `window` is another object after each change of its lines. */
export interface LogState {
  window: LogWindow;
  size: number;
  isRead: boolean;
  isFollowing: boolean;
  /** The run is over, and its log has been read since: `size` is the last. */
  isComplete: boolean;
  /** What the reader should know, such as that the file was cut. */
  note?: string;
  error?: Error;
}

export type LogReader = ReturnType<typeof logReader>;

/**
 * Reads one run's log through `read`: follows its end by long-polling, or shows
 * another place of it. Only a window of its lines is ever kept.
 */
export function logReader(read: (query: ReadLog) => Promise<LogBytes>) {
  const state = createStore<LogState>({
    window: new LogWindow(0),
    size: 0,
    isRead: false,
    isFollowing: true,
    isComplete: false,
  });
  const change = (changes: Partial<LogState>) => {
    const next = { ...state.get(), ...changes };
    if (changes.window) delete next.error;
    state.set(next);
  };
  let isBusy = false;
  let wake = new AbortController();
  /** Rises with each jump, so that a page that was asked for before it is dropped. */
  let place = 0;

  function append(page: LogBytes, keep: "newest" | "nearest"): void {
    const window = state.get().window.copy();
    if (page.bytes.length > 0) window.append(page.bytes, keep);
    change({ window, size: page.size, isRead: true });
  }

  /** A new window with the lines around `byte`; starts at a line's start unless that is far away. */
  async function goTo(byte: number, isFollowing = false): Promise<void> {
    const mine = ++place;
    const start = Math.max(0, byte - (byte > 0 ? PAGE_BYTES / 2 : 0));
    await guard(async () => {
      const page = await read({ after: start, maxBytes: PAGE_BYTES });
      if (mine !== place) return;
      const window = new LogWindow(start);
      window.fill(page.bytes, byte);
      window.dropPartialLine();
      change({ window, size: page.size, isRead: true, isFollowing });
    });
  }

  async function sizeNow(): Promise<number> {
    return (await read({ after: 0, maxBytes: 1 })).size;
  }

  async function goToEnd(): Promise<void> {
    const { window, size } = state.get();
    if (window.end < size) await guard(async () => goTo(await sizeNow(), true));
    change({ isFollowing: true });
    wakeUp();
  }

  function wakeUp(): void {
    const old = wake;
    wake = new AbortController();
    old.abort();
  }

  async function guard(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      change({ error: error as Error });
    }
  }

  /** One look at the end of the log: whether it is complete, as far as it goes. */
  async function lookAtEnd(isOver: boolean, signal: AbortSignal): Promise<boolean> {
    const mine = place;
    const before = state.get();
    const atEnd = before.window.end >= before.size;
    // Away from the end only the size is of interest.
    const after = before.isFollowing ? before.window.end : Math.max(before.size, before.window.end);
    const waitSeconds = !isOver && before.isRead && (atEnd || !before.isFollowing) ? WAIT_SECONDS : 0;
    const page = await read({ after, maxBytes: PAGE_BYTES, waitSeconds, signal });
    if (signal.aborted || mine !== place) return false;
    const { window, isFollowing } = state.get();
    if (isFollowing && page.size - window.end > MAX_LAG_BYTES) {
      await goTo(page.size, true);
      return false;
    }
    if (isFollowing && after === window.end) {
      append(page, "newest");
      return isOver && !page.more;
    }
    change({ size: page.size });
    return isOver;
  }

  return {
    state,
    goTo,
    goToEnd,

    /** Follows until `signal` aborts, and rests where there is nothing more to come: `retry` and `goToEnd` look again. */
    async follow(isOver: boolean, signal: AbortSignal): Promise<void> {
      while (!signal.aborted) {
        await seen(signal);
        const started = performance.now();
        const either = AbortSignal.any([signal, wake.signal]);
        try {
          const isComplete = await lookAtEnd(isOver, either);
          if (state.get().error) {
            const { error: _error, ...rest } = state.get();
            state.set(rest);
          }
          if (isComplete) {
            change({ isComplete });
            await pause(Infinity, either);
          }
        } catch (error) {
          if (!either.aborted) await pause(fail(error as Error), either);
        }
        const isCatchingUp = state.get().window.end < state.get().size && state.get().isFollowing;
        const spent = performance.now() - started;
        if (!isCatchingUp && spent < MIN_POLL_MS) await pause(MIN_POLL_MS - spent, signal);
      }
    },

    stopFollowing(): void {
      if (state.get().isFollowing) change({ isFollowing: false });
    },

    retry(): void {
      wakeUp();
    },

    /** Reads the page before the window. */
    async readBefore(): Promise<void> {
      const { window } = state.get();
      if (isBusy || window.start === 0 || window.lines.length === 0) return;
      isBusy = true;
      const mine = place;
      await guard(async () => {
        const after = Math.max(0, window.start - PAGE_BYTES);
        const wanted = window.start - after;
        let bytes = new Uint8Array();
        while (bytes.length < wanted) {
          const page = await read({ after: after + bytes.length, maxBytes: wanted - bytes.length });
          if (page.bytes.length === 0) return;
          bytes = joined(bytes, page.bytes).subarray(0, wanted);
        }
        const current = state.get().window;
        if (mine !== place || current.start !== after + wanted) return;
        const next = current.copy();
        next.prepend(bytes);
        if (after > 0) next.dropPartialLine();
        change({ window: next, isFollowing: false });
      });
      isBusy = false;
    },

    /** Reads the page after the window; `follows` when the reader is at its very end. */
    async readAfter(follows: boolean): Promise<void> {
      const { window, size, isFollowing } = state.get();
      if (isFollowing) return;
      if (window.end >= size) {
        if (follows) {
          change({ isFollowing: true });
          wakeUp();
        }
        return;
      }
      if (isBusy) return;
      isBusy = true;
      const mine = place;
      await guard(async () => {
        const page = await read({ after: window.end, maxBytes: PAGE_BYTES });
        if (mine === place && state.get().window.end === window.end) append(page, "nearest");
      });
      isBusy = false;
    },

    /** The whole log as it is now. Throws what the API throws, and the reason of an aborted `signal`. */
    async readAll(onProgress?: (read: number, size: number) => void, signal?: AbortSignal): Promise<Blob> {
      const parts: BlobPart[] = [];
      for (let after = 0; ;) {
        const page = await read({ after, maxBytes: MAX_LOG_PAGE_BYTES, signal });
        parts.push(page.bytes as Uint8Array<ArrayBuffer>);
        after = page.offset;
        onProgress?.(after, page.size);
        if (!page.more || page.bytes.length === 0) return new Blob(parts, { type: "text/plain" });
      }
    },

    /** Bytes of the log, for the search. */
    readBytes: (after: number, maxBytes: number, signal?: AbortSignal) => read({ after, maxBytes, signal }),
  };

  /** Shows what went wrong; for how many milliseconds to leave it at that. */
  function fail(error: Error): number {
    if (error instanceof ApiError && error.code === "offset_beyond_end") {
      place++;
      change({
        window: new LogWindow(0),
        size: error.size ?? 0,
        isFollowing: true,
        note: "The log was cut on the host; it is shown from its new start.",
      });
      return 0;
    }
    change({ error });
    return pauseBeforeRetry(error);
  }
}
