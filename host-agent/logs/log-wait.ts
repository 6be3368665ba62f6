import { type FSWatcher, statSync, watch } from "node:fs";

import { type Change, createChange } from "../system/change.ts";

/** How often to look without a notification, for file systems that send none (NFS, FUSE). */
const LOOK_INTERVAL_MS = 500;

/** All that wait for one path share its watch. */
interface Watched {
  watcher: FSWatcher | undefined;
  /** What the last look found: a change of it is one of the file. */
  version: string;
  wakes: Set<() => void>;
}

const watched = new Map<string, Watched>();
/** One for all paths; it exists while there is any. */
let looking: NodeJS.Timeout | undefined;

/**
 * Watches files and folders: by notification, and by a look at each every LOOK_INTERVAL_MS. However many watch one path,
 * the kernel has one watch of it and each interval one look; nobody wakes while nothing changes.
 */
export function watchFiles(paths: readonly string[]): Change & Disposable {
  const { next, wake } = createChange();
  for (const path of paths) add(path, wake);
  return {
    next,
    [Symbol.dispose]() {
      for (const path of paths) remove(path, wake);
    },
  };
}

function add(path: string, wake: () => void): void {
  const known = watched.get(path);
  if (known) {
    known.wakes.add(wake);
    return;
  }
  const one: Watched = { watcher: undefined, version: versionOf(path), wakes: new Set([wake]) };
  watched.set(path, one);
  startWatch(path, one);
  looking ??= setInterval(lookAtAll, LOOK_INTERVAL_MS).unref();
}

function remove(path: string, wake: () => void): void {
  const one = watched.get(path);
  one?.wakes.delete(wake);
  if (!one || one.wakes.size > 0) return;
  one.watcher?.close();
  watched.delete(path);
  if (watched.size > 0) return;
  clearInterval(looking);
  looking = undefined;
}

function lookAtAll(): void {
  for (const [path, one] of watched) {
    const version = versionOf(path);
    if (version === one.version) continue;
    // It may be another file by now, or the first one at this path.
    startWatch(path, one);
    one.version = version;
    wakeAll(one);
  }
}

function wakeAll({ wakes }: Watched): void {
  for (const wake of wakes) wake();
}

/** Without a watch when the kernel has none left to give, or nothing is at the path: the looks remain. */
function startWatch(path: string, one: Watched): void {
  one.watcher?.close();
  one.watcher = undefined;
  try {
    one.watcher = watch(path, { persistent: false }, () => wakeAll(one));
    one.watcher.on("error", () => wakeAll(one));
  } catch {
    // The looks remain.
  }
}

function versionOf(path: string): string {
  try {
    const stats = statSync(path, { bigint: true, throwIfNoEntry: false });
    return stats === undefined ? "" : `${stats.dev}:${stats.ino}:${stats.size}:${stats.mtimeNs}`;
  } catch {
    return "";
  }
}
