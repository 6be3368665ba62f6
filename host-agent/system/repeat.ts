/** Runs `work` at once and then repeatedly, each time `intervalMs` after its end. A failure goes to `onFailure` and is not fatal. */
export function repeat(
  onFailure: (error: unknown) => void,
  work: () => Promise<void> | void,
  intervalMs: number,
) {
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  const run = async (): Promise<void> => {
    try {
      await work();
    } catch (error) {
      onFailure(error);
    }
    if (stopped) return;
    timer = setTimeout(() => (current = run()), intervalMs);
    timer.unref();
  };
  let current = run();
  return {
    first: current,
    async stop(): Promise<void> {
      stopped = true;
      clearTimeout(timer);
      await current;
    },
  };
}
