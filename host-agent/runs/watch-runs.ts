import { type Change, createChange } from "../system/change.ts";

/** How often a run that somebody waits for is looked at. */
const LOOK_INTERVAL_MS = 500;

/** Waits for the ends of runs. */
export type RunWatches = ReturnType<typeof createRunWatches>;

/**
 * Lets many requests wait for the ends of runs: each run that is waited for is looked at every half second, once for all of
 * its requests. `hasEnded` tells whether it has; when it has, or rejects, all of them look for themselves.
 */
export function createRunWatches(hasEnded: (runId: string) => Promise<boolean>) {
  const waiting = new Map<string, Set<() => void>>();
  let timer: NodeJS.Timeout | undefined;
  let isLooking = false;

  async function look(): Promise<void> {
    // A look may take longer than the interval.
    if (isLooking) return;
    isLooking = true;
    try {
      for (const [runId, wakes] of waiting) {
        // A request that cannot look here learns why when it looks itself.
        if (await hasEnded(runId).catch(() => true)) for (const wake of wakes) wake();
      }
    } finally {
      isLooking = false;
    }
  }

  return {
    /** Watches a run until it is disposed of: a change is that the run may have ended. */
    watch(runId: string): Change & Disposable {
      const { next, wake } = createChange();
      const wakes = waiting.get(runId) ?? new Set();
      waiting.set(runId, wakes.add(wake));
      timer ??= setInterval(() => void look(), LOOK_INTERVAL_MS).unref();
      return {
        next,
        [Symbol.dispose]() {
          wakes.delete(wake);
          if (wakes.size > 0) return;
          if (waiting.get(runId) === wakes) waiting.delete(runId);
          if (waiting.size > 0) return;
          clearInterval(timer);
          timer = undefined;
        },
      };
    },
  };
}
