import { isProblem } from "../client/hub-error.ts";
import type { LogQuery, ReadLog } from "../client/log-bytes.ts";
import { pause } from "../client/pause.ts";
import { pauseBeforePoll } from "../client/retry.ts";
import { seen } from "./hooks.ts";
import { type LogPager, PAGE_BYTES } from "./log-pager.ts";
import { LogWindow } from "./log-window.ts";
import type { LogState, ShownLog } from "./shown-log.ts";

/** A log that grows faster than this page reads it is followed at its end, with a gap in what is shown. */
const MAX_LAG_BYTES = 1_048_576;
const WAIT_SECONDS = 25;
const MIN_POLL_MS = 250;

/** Follows the end of a log by long-polling; away from the end it only learns the log's size. */
export function logFollower(read: ReadLog, shown: ShownLog, { show }: Pick<LogPager, "show">) {
  const { state, change } = shown;
  let wake = new AbortController();

  /** One look at the end of the log: whether it is complete, as far as it goes. */
  async function lookAtEnd(isOver: boolean, signal: AbortSignal): Promise<boolean> {
    const isWanted = shown.stays();
    const query = nextQuery(state.get(), isOver);
    const page = await read({ ...query, signal });
    if (signal.aborted || !isWanted()) return false;
    const { window, isFollowing } = state.get();
    if (isFollowing && page.size - window.end > MAX_LAG_BYTES) {
      await show(page.size, true);
      return false;
    }
    if (isFollowing && query.after === window.end) {
      shown.append(page, "newest");
      return isOver && !page.more;
    }
    change({ size: page.size });
    return isOver;
  }

  /** Looks once, and rests for as long as the outcome demands. */
  async function look(isOver: boolean, signal: AbortSignal): Promise<void> {
    try {
      const isComplete = await lookAtEnd(isOver, signal);
      shown.clearError();
      if (!isComplete) return;
      change({ isComplete });
      await pause(Infinity, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (isProblem(error, "offset_beyond_end")) startAgain(error.facts.size ?? 0);
      else {
        change({ error: error as Error });
        await pause(pauseBeforePoll(error), signal);
      }
    }
  }

  function startAgain(size: number): void {
    shown.jump();
    const note = "The log was truncated on the host. It is shown from its new start.";
    change({ window: new LogWindow(0), size, isFollowing: true, note });
  }

  return {
    /** Follows until `signal` aborts. Rests when nothing more can come; `lookAgain` ends a rest. */
    async follow(isOver: boolean, signal: AbortSignal): Promise<void> {
      while (!signal.aborted) {
        await seen(signal);
        const started = performance.now();
        await look(isOver, AbortSignal.any([signal, wake.signal]));
        const { window, size, isFollowing } = state.get();
        const isCatchingUp = isFollowing && window.end < size;
        const spent = performance.now() - started;
        if (!isCatchingUp && spent < MIN_POLL_MS) await pause(MIN_POLL_MS - spent, signal);
      }
    },

    lookAgain(): void {
      const old = wake;
      wake = new AbortController();
      old.abort();
    },
  };
}

/** Where to read next, and for how long the server may wait for new bytes. */
function nextQuery({ window, size, isRead, isFollowing }: LogState, isOver: boolean): LogQuery {
  const mayWait = !isOver && isRead && (window.end >= size || !isFollowing);
  return {
    // Away from the end only the size is of interest.
    after: isFollowing ? window.end : Math.max(size, window.end),
    maxBytes: PAGE_BYTES,
    waitSeconds: mayWait ? WAIT_SECONDS : 0,
  };
}
