import { HubError } from "./hub-error.ts";
import { pause } from "./pause.ts";

export interface RetryOptions {
  /** For how long to repeat the request after its first failure; 0 for not at all. */
  seconds: number;
  signal?: AbortSignal | undefined;
  /** Receives one sentence before each pause. */
  warn(sentence: string): void;
}

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 10_000;

/**
 * Repeats `ask` until it succeeds or fails for a reason that a repetition does not
 * change. Pauses longer each time, and at least as long as Retry-After says. Only for
 * requests that are safe to repeat. Rejects with the last failure when the time is over.
 */
export async function withRetries<T>(ask: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { seconds, signal, warn } = options;
  let stopAt: number | undefined;
  for (let attempt = 0; ; attempt++) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof HubError && error.transient) || signal?.aborted) throw error;
      stopAt ??= performance.now() + seconds * 1000;
      const pauseMs = Math.max(backoffMs(attempt), (error.facts.retryAfterSeconds ?? 0) * 1000);
      if (performance.now() + pauseMs > stopAt) throw error;
      warn(`${error.message}; trying again in ${(pauseMs / 1000).toFixed(1)} s`);
      await pause(pauseMs, signal);
      signal?.throwIfAborted();
    }
  }
}

/** Doubling, with a random part, so that clients that lost the same server do not return together. */
function backoffMs(attempt: number): number {
  const backoff = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempt);
  return backoff * (0.75 + Math.random() / 4);
}

const POLL_PAUSE_MS = 2_000;

/**
 * For how many milliseconds a page that polls waits after a failure; Infinity where only a
 * person can change the outcome. Reading is safe to repeat, so a 500 is repeated too.
 */
export function pauseBeforePoll(error: unknown): number {
  if (!(error instanceof HubError) || error.status < 400) return POLL_PAUSE_MS;
  if (!error.transient && error.status < 500) return Infinity;
  return Math.max(POLL_PAUSE_MS, (error.facts.retryAfterSeconds ?? 0) * 1000);
}
