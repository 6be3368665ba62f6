import { logPages, type ReadLog } from "../client/log-bytes.ts";
import { logFollower } from "./log-follower.ts";
import { logPager } from "./log-pager.ts";
import { shownLog } from "./shown-log.ts";

export type LogReader = ReturnType<typeof logReader>;

/**
 * Reads one run's log through `read`: follows its end, or shows another place of
 * it. Only a window of its lines is ever kept.
 */
export function logReader(read: ReadLog) {
  const shown = shownLog();
  const pager = logPager(read, shown);
  const follower = logFollower(read, shown, pager);
  const { state, change } = shown;

  function followFromHere(): void {
    change({ isFollowing: true });
    follower.lookAgain();
  }

  return {
    state,
    goTo: pager.goTo,
    readBefore: pager.readBefore,
    /** Follows until `signal` aborts, and rests when nothing more can come: `retry` and `goToEnd` look again. */
    follow: follower.follow,
    retry: follower.lookAgain,

    async goToEnd(): Promise<void> {
      await pager.goToEnd();
      followFromHere();
    },

    stopFollowing(): void {
      if (state.get().isFollowing) change({ isFollowing: false });
    },

    /** Reads the page after the window; at the end of the log it follows, when the user is at its end (`isAtEnd`). */
    async readAfter(isAtEnd: boolean): Promise<void> {
      const { window, size, isFollowing } = state.get();
      if (isFollowing) return;
      if (window.end < size) await pager.readAfter();
      else if (isAtEnd) followFromHere();
    },

    /** The whole log as it is now. Throws what `read` throws, and the reason of an aborted `signal`. */
    async readAll(onProgress?: (read: number, size: number) => void, signal?: AbortSignal): Promise<Blob> {
      const parts: BlobPart[] = [];
      for await (const { bytes, offset, size } of logPages(read, 0, signal)) {
        parts.push(bytes);
        onProgress?.(offset, size);
      }
      return new Blob(parts, { type: "text/plain" });
    },

    /** Bytes of the log, for the search. */
    readBytes: (after: number, maxBytes: number, signal?: AbortSignal) => read({ after, maxBytes, signal }),
  };
}
