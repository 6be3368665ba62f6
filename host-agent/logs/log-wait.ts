import { type FSWatcher, watch } from "node:fs";

/** How often to look without a notification, for file systems that send none (NFS, FUSE). */
const LOOK_INTERVAL_MS = 500;

/**
 * Resolves when one of the paths has changed, after LOOK_INTERVAL_MS at the
 * latest, or at once when `signal` aborts. A caller looks again after each.
 * Start it before looking, so that no change falls in between.
 */
export function watchForChange(paths: readonly string[], signal: AbortSignal | undefined) {
  const { promise, resolve } = Promise.withResolvers<void>();
  const watchers = paths.flatMap((path) => startWatch(path, resolve));
  const timer = setTimeout(resolve, LOOK_INTERVAL_MS);
  const wake = () => resolve();
  signal?.addEventListener("abort", wake, { once: true });
  if (signal?.aborted) resolve();
  return {
    changed: promise,
    [Symbol.dispose](): void {
      clearTimeout(timer);
      signal?.removeEventListener("abort", wake);
      for (const watcher of watchers) watcher.close();
    },
  };
}

/** None when the kernel has no watch left to give: the interval remains. */
function startWatch(path: string, onChange: () => void): FSWatcher[] {
  try {
    const watcher = watch(path, { persistent: false }, onChange);
    watcher.on("error", onChange);
    return [watcher];
  } catch {
    return [];
  }
}
