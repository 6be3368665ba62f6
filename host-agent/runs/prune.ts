import type { Executor } from "../executor/executor.ts";
import type { LogIndex } from "../logs/log-index.ts";
import { removeLog } from "../logs/log-limit.ts";
import type { EndedRun } from "../store/retention-store.ts";
import type { RunStore } from "../store/run-store.ts";

export interface PruneDeps {
  store: RunStore;
  executor: Executor;
  /** The links to logs by run id. */
  logIndex?: LogIndex | undefined;
  /** Receives each run that has been forgotten, inside one transaction for all of a batch. */
  onPruned?(run: EndedRun): void;
}

/** What became of a batch. */
export interface Pruned {
  /** The runs that this call has forgotten; another agent may have forgotten others. */
  forgotten: EndedRun[];
  /** Why the other ones are kept: the file system failed for them. */
  failures: { run: EndedRun; error: unknown }[];
}

/**
 * Forgets runs that have ended: their logs, what the executor keeps of them, and last of all their rows, with one write for
 * all, so that a prune that breaks off is done again. Files are removed outside of the database's lock and without
 * blocking other work. Of a log only the very file is removed that was created for the run. Throws when the database
 * cannot be written.
 */
export async function prune(runs: readonly EndedRun[], deps: PruneDeps): Promise<Pruned> {
  const { store, onPruned } = deps;
  const failures: Pruned["failures"] = [];
  await Promise.all(
    runs.map((run) => removeFiles(run, deps).catch((error: unknown) => failures.push({ run, error }))),
  );
  const failed = new Set(failures.map(({ run }) => run.runId));
  const removed = store.removeAll(runs.flatMap(({ runId }) => (failed.has(runId) ? [] : [runId])));
  const forgotten = runs.filter(({ runId }) => removed.has(runId));
  if (onPruned && forgotten.length > 0) {
    // Other work first: together the two writes would block it twice as long.
    await new Promise((resolve) => setImmediate(resolve));
    store.inOneWrite(() => forgotten.forEach((run) => onPruned(run)));
  }
  return { forgotten, failures };
}

async function removeFiles({ runId, logPath, logFile }: EndedRun, { executor, logIndex }: PruneDeps) {
  if (logFile !== undefined) await removeLog(logPath, logFile);
  await executor.forget(runId);
  await logIndex?.remove(runId);
}
