import { setTimeout as sleep } from "node:timers/promises";

import { ApiError } from "./api.ts";

export interface RetryOptions {
  /** For how long to go on asking after the first failure; 0 for not at all. */
  seconds: number;
  signal?: AbortSignal | undefined;
  /** Told before each pause. */
  warn(sentence: string): void;
}

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 10_000;

/**
 * Asks until there is an answer that asking again would not change, pausing
 * longer each time and as long as Retry-After says. Only for requests that may
 * be repeated. Rejects with the last failure when the time is over.
 */
export async function withRetries<T>(ask: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { seconds, signal, warn } = options;
  let giveUpAt: number | undefined;
  for (let attempt = 0; ; attempt++) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof ApiError && error.transient) || signal?.aborted) throw error;
      giveUpAt ??= performance.now() + seconds * 1000;
      const pauseMs = pauseFor(error, attempt);
      if (performance.now() + pauseMs > giveUpAt) throw error;
      warn(`${error.message}; trying again in ${(pauseMs / 1000).toFixed(1)} s`);
      await sleep(pauseMs, undefined, { ...(signal && { signal }) });
    }
  }
}

/** Doubling, with a random part, so that clients that lost the same server do not return together. */
function pauseFor({ retryAfterSeconds }: ApiError, attempt: number): number {
  const backoff = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempt);
  const jittered = backoff * (0.75 + Math.random() / 4);
  return Math.max(jittered, (retryAfterSeconds ?? 0) * 1000);
}
