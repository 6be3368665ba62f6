import { ApiProblem } from "../protocol/problem.ts";
import { type Reach, reachesRun } from "../protocol/reach.ts";
import type { Source } from "../protocol/run.ts";
import { type Run, targetOf } from "../store/run.ts";
import type { RunStore } from "../store/run-store.ts";

/** Finds a run of a surface that is in reach, as it is now. Throws `run_not_found`. */
export type FindRun = (source: Source, runId: string, reach: Reach | undefined) => Promise<Run>;

/** True when a caller with this reach may know of the run. */
export function isInReach(reach: Reach | undefined, run: Run): boolean {
  return reach === undefined || reachesRun(reach, { ...run, target: targetOf(run) });
}

/** A run of the other surface does not exist for this one, and one out of reach for nobody who has that reach. */
export function createFind(store: RunStore, reconcile: (run: Run) => Promise<Run>): FindRun {
  return async (source, runId, reach) => {
    const run = store.get(runId);
    if (run?.source !== source || !isInReach(reach, run)) {
      throw new ApiProblem("run_not_found", `run_id: there is no ${source} run ${runId}`);
    }
    return reconcile(run);
  };
}
