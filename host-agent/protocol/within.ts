/**
 * The result of `work`, or after `ms` a rejection with the error of `tooLate`.
 * The work itself is not stopped: `tooLate` may stop it, where that is possible.
 */
export async function within<T>(ms: number, work: () => Promise<T>, tooLate: () => Error): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(tooLate()), ms);
  try {
    return await Promise.race([work(), promise]);
  } finally {
    clearTimeout(timer);
  }
}
