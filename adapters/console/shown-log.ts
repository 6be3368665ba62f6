import type { LogBytes } from "../client/log-bytes.ts";
import { LogWindow } from "./log-window.ts";
import { createStore } from "./store.ts";

/** What is shown of a log. `window` is another object after each change of its lines. */
export interface LogState {
  window: LogWindow;
  /** The log's size in bytes, as last reported. */
  size: number;
  isRead: boolean;
  isFollowing: boolean;
  /** The run is over, and its log has been read since: `size` is the last. */
  isComplete: boolean;
  /** What the user should know, such as that the file was truncated. */
  note?: string;
  error?: Error;
}

export type ShownLog = ReturnType<typeof shownLog>;

/** The part of a log that is shown: a state to watch, and what may be done to it. Nothing is shown at first. */
export function shownLog() {
  const state = createStore<LogState>({
    window: new LogWindow(0),
    size: 0,
    isRead: false,
    isFollowing: true,
    isComplete: false,
  });
  let jumps = 0;

  function change(changes: Partial<LogState>): void {
    const next = { ...state.get(), ...changes };
    if (changes.window) delete next.error;
    state.set(next);
  }

  /** A question for later: has no jump begun since now? A page that was requested before a jump is dropped. */
  function stays(): () => boolean {
    const now = jumps;
    return () => now === jumps;
  }

  return {
    state,
    change,
    stays,

    clearError(): void {
      const { error, ...rest } = state.get();
      if (error) state.set(rest);
    },

    /** Begins a jump to another place; the answer is that of `stays`. */
    jump(): () => boolean {
      jumps++;
      return stays();
    },

    /** Adds a page that follows the window. */
    append(page: LogBytes, keep: "newest" | "nearest"): void {
      const window = state.get().window.copy();
      if (page.bytes.length > 0) window.append(page.bytes, keep);
      change({ window, size: page.size, isRead: true });
    },
  };
}
