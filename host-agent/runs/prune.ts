import type { Executor } from "../executor/executor.ts";
import { removeLog } from "../logs/log-limit.ts";
import type { Run } from "../store/run.ts";
import type { RunStore } from "../store/run-store.ts";

/**
 * Forgets a run that has ended: its log, what its executor keeps of it, and last of all the row,
 * so that a prune that breaks off is done again. Of a log only the very file is
 * removed that was created for the run. False when another agent has forgotten it.
 * Throws when the file system fails.
 */
export function prune(run: Run, { store, executor }: { store: RunStore; executor: Executor }): boolean {
  if (run.logFile !== undefined) removeLog(run.logPath, run.logFile);
  executor.forget(run.runId);
  return store.remove(run.runId);
}
