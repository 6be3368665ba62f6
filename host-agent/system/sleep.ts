/** Resolves after this many milliseconds, or sooner with `event`. Keeps no process alive. */
export async function sleep(milliseconds: number, event?: Promise<unknown>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  timer.unref();
  await Promise.race(event ? [event, promise] : [promise]);
  clearTimeout(timer);
}
