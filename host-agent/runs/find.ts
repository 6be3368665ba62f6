import { ApiProblem } from "../protocol/problem.ts";
import type { Source } from "../protocol/run.ts";
import type { Run } from "../store/run.ts";
import type { RunStore } from "../store/run-store.ts";

/** Finds a run of a surface, as it is now. Throws `run_not_found`. */
export type FindRun = (source: Source, runId: string) => Promise<Run>;

/** A run of the other surface does not exist for this one. */
export function createFind(store: RunStore, reconcile: (run: Run) => Promise<Run>): FindRun {
  return async (source, runId) => {
    const run = store.get(runId);
    if (run?.source !== source) {
      throw new ApiProblem("run_not_found", `run_id: there is no ${source} run ${runId}`);
    }
    return reconcile(run);
  };
}
