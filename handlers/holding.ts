/** Who may end the holding of a request before its time. */
export interface Holding {
  /** The client, by hanging up. */
  signal: AbortSignal;
  /** The server, which is about to stop: what is held is to be answered at once. */
  stopping: AbortSignal | undefined;
}

/**
 * The answer of `read`, which the agent may hold for so many seconds. When the
 * server is about to stop, what can be read at once.
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
