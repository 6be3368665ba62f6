/** What ends the waiting of a request before its time. */
export interface Holding {
  /** Aborts when the client closes the connection. */
  signal: AbortSignal;
  /** Aborts when the server is about to stop: requests that wait are then answered at once. */
  stopping: AbortSignal | undefined;
}

/**
 * The answer of `read`, for which the agent may wait up to `waitSeconds`. When the
 * server is about to stop, the answer that is available at once.
 */
export async function hold<T>(
  waitSeconds: number,
  { signal, stopping }: Holding,
  read: (wait: { waitSeconds: number; signal: AbortSignal }) => Promise<T>,
): Promise<T> {
  if (waitSeconds === 0 || stopping === undefined) return read({ waitSeconds, signal });
  const until = AbortSignal.any([signal, stopping]);
  return read({ waitSeconds, signal: until }).catch((error: unknown) => {
    if (!stopping.aborted || signal.aborted) throw error;
    return read({ waitSeconds: 0, signal });
  });
}
