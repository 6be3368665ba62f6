/** What ends the waiting of a request before its time. */
export interface Holding {
  /** Aborts when the client closes the connection. */
  signal: AbortSignal;
  /** Aborts when the server is about to stop: requests that wait are then answered at once. */
  stopping: AbortSignal | undefined;
}

/** The usual time limits of proxies, in seconds: a wait that long would be cut off by them as a 504. */
const PROXY_LIMITS = [30, 60];
/** The time that an answer needs to arrive before such a limit. */
const HEADROOM_SECONDS = 2;

/** The longest time to wait for a client that asks for `seconds`: up to 2 s less, where it would meet the limit of a proxy. */
export function holdSeconds(seconds: number): number {
  const limit = PROXY_LIMITS.find((each) => seconds > each - HEADROOM_SECONDS && seconds <= each);
  return limit === undefined ? seconds : limit - HEADROOM_SECONDS;
}

/**
 * The answer of `read`, for which the agent may wait up to `askedSeconds`, less what holdSeconds takes off. When the
 * server is about to stop, the answer that is available at once.
 */
export async function hold<T>(
  askedSeconds: number,
  { signal, stopping }: Holding,
  read: (wait: { waitSeconds: number; signal: AbortSignal }) => Promise<T>,
): Promise<T> {
  const waitSeconds = holdSeconds(askedSeconds);
  if (waitSeconds === 0 || stopping === undefined) return read({ waitSeconds, signal });
  const until = AbortSignal.any([signal, stopping]);
  return read({ waitSeconds, signal: until }).catch((error: unknown) => {
    if (!stopping.aborted || signal.aborted) throw error;
    return read({ waitSeconds: 0, signal });
  });
}
