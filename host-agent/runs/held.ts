import { ApiProblem } from "../protocol/problem.ts";

/** At most this many requests may wait at a time. */
const MAX_HELD = 500;
/** At most this many of them with keys of one name: no key can take all the places. */
const MAX_HELD_PER_KEY = MAX_HELD / 2;

export type HeldRequests = ReturnType<typeof holdRequests>;

/** Keeps count of the requests that wait for a log or for a run's end, and ends their waiting when the agent stops. */
export function holdRequests() {
  const stopping = new AbortController();
  const held = new Set<Promise<unknown>>();
  const heldByKey = new Map<string, number>();

  function take(keyName: string): void {
    const count = heldByKey.get(keyName) ?? 0;
    if (count >= MAX_HELD_PER_KEY) throw tooManyHeld(MAX_HELD_PER_KEY, ` with the API key ${keyName}`);
    heldByKey.set(keyName, count + 1);
  }

  function free(keyName: string): void {
    const count = heldByKey.get(keyName)! - 1;
    if (count > 0) heldByKey.set(keyName, count);
    else heldByKey.delete(keyName);
  }

  return {
    /**
     * Begins a request that may wait for `waitSeconds`. Throws `rate_limited` when too many wait, of all keys or of this
     * one; an edge of an older version does not name the key.
     */
    hold<T>(waitSeconds: number, keyName: string | undefined, begin: () => Promise<T>): Promise<T> {
      // Each has its own watch, and all of one run wake at once.
      if (waitSeconds > 0 && held.size >= MAX_HELD) throw tooManyHeld(MAX_HELD);
      const counted = waitSeconds > 0 ? keyName : undefined;
      if (counted !== undefined) take(counted);
      const tracked = begin().finally(() => {
        held.delete(tracked);
        if (counted !== undefined) free(counted);
      });
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

function tooManyHeld(most: number, whose = ""): ApiProblem {
  return new ApiProblem(
    "rate_limited",
    `Too many waiting requests${whose} (${most}). Retry later, or without \`wait\``,
    { retryAfterSeconds: 1 },
  );
}
