/** Resolves after this many milliseconds, or sooner with `event`. */
export async function sleep(milliseconds: number, event?: Promise<unknown>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  await Promise.race(event ? [event, promise] : [promise]);
  clearTimeout(timer);
}
