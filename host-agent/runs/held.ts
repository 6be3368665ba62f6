import { ApiProblem } from "../protocol/problem.ts";

/** At most this many requests may wait at a time. */
const MAX_HELD = 500;

export type HeldRequests = ReturnType<typeof holdRequests>;

/** Keeps count of the requests that wait for a log or for a run's end, and ends their waiting when the agent stops. */
export function holdRequests() {
  const stopping = new AbortController();
  const held = new Set<Promise<unknown>>();

  return {
    /** Begins a request that may wait for `waitSeconds`. Throws `rate_limited` when too many wait. */
    hold<T>(waitSeconds: number, begin: () => Promise<T>): Promise<T> {
      // Each has its own watch, and all of one run wake at once.
      if (waitSeconds > 0 && held.size >= MAX_HELD) throw tooManyHeld();
      const tracked = begin().finally(() => held.delete(tracked));
      held.add(tracked);
      return tracked;
    },
    /** Aborts when the client hangs up or the agent stops. */
    orStopping(signal: AbortSignal | undefined): AbortSignal {
      return signal ? AbortSignal.any([signal, stopping.signal]) : stopping.signal;
    },
    /** Answers every request that waits, now and from now on. */
    stopWaiting: () => stopping.abort(),
    /** The same; resolves once none is under way, including those of clients that hung up. */
    async stop(): Promise<void> {
      stopping.abort();
      await Promise.allSettled(held);
    },
  };
}

function tooManyHeld(): ApiProblem {
  return new ApiProblem(
    "rate_limited",
    `Too many waiting requests (${MAX_HELD}). Retry later, or without \`wait\``,
    { retryAfterSeconds: 1 },
  );
}
