/** A longer time would be over at once (setTimeout takes a signed 32-bit number). */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Resolves after `ms`, which may be Infinity, or as soon as `signal` aborts. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, Math.min(ms, MAX_TIMER_MS));
    signal?.addEventListener("abort", end);
  });
}
