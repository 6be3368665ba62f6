import { type FSWatcher, watch } from "node:fs";

import type { RunEnds } from "./executor.ts";
import type { Spawner } from "./spawner.ts";

/** What the ends of runs are noticed with. */
export interface RunEndsDeps {
  spawner: Pick<Spawner, "onEvents" | "isParentOf">;
  /** The folder of a run: the wrapper writes the exit code there. */
  folderOf(runId: string): { path: string };
}

/**
 * Reports that runs may have ended. The spawner is the parent of the wrappers that it started, and reports their ends; all
 * other runs are noticed by one inotify(7) watch each, on the run's folder. Neither costs anything while nothing happens.
 * What is followed, and by what, is no truth: a report that is lost, or comes twice, costs time and nothing else.
 */
export function runEnds({ spawner, folderOf }: RunEndsDeps): RunEnds & { close(): void } {
  /** By run id; undefined for a run that the spawner reports. */
  const followed = new Map<string, FSWatcher | undefined>();
  let report: (runId: string) => void = ignore;

  function watchFolder(runId: string): FSWatcher | undefined {
    try {
      const watcher = watch(folderOf(runId).path, { persistent: false }, () => report(runId));
      watcher.on("error", () => watcher.close());
      return watcher;
    } catch {
      // No folder yet, or the kernel has no watch left to give: the sweep remains.
      return undefined;
    }
  }

  function unfollow(runId: string): void {
    followed.get(runId)?.close();
    followed.delete(runId);
  }

  spawner.onEvents({
    ended: (runId) => report(runId),
    lost(runIds) {
      for (const runId of runIds) {
        if (!followed.has(runId)) continue;
        followed.set(runId, watchFolder(runId));
        // It may have ended before the watch began.
        report(runId);
      }
    },
  });

  return {
    onEnd: (listener) => void (report = listener),
    follow(runId) {
      if (followed.get(runId) !== undefined) return;
      followed.set(runId, spawner.isParentOf(runId) ? undefined : watchFolder(runId));
    },
    unfollow,
    followed: () => followed.keys(),
    close() {
      report = ignore;
      for (const runId of followed.keys()) unfollow(runId);
    },
  };
}

function ignore(): void {}
