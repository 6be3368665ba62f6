import type { RunsQuery } from "../protocol/agent.ts";
import type { RunList } from "../protocol/run.ts";
import type { Run } from "../store/run.ts";
import { isOfOneFile } from "../system/exhaustion.ts";
import type { MarkersOf } from "./end-of-run.ts";
import { createFind, type FindRun } from "./find.ts";
import { holdRequests } from "./held.ts";
import { createKill } from "./kill.ts";
import { createLaunches, type LaunchDeps } from "./launch.ts";
import { createReconcile, type ReconcileDeps } from "./reconcile.ts";
import { publicRun } from "./record.ts";
import { createRetention, type RetentionDeps } from "./retention.ts";
import { createStops } from "./stop.ts";
import { createSupervision, type SuperviseDeps } from "./supervise.ts";
import { createWaits } from "./wait.ts";

// The room `runs/`: what a run is and what may become of it. It imports no node:* and looks at no file or process
// itself: the executor, logs/ and store/ do that. It may import the port executor/executor.ts, store/, logs/,
// catalogue/, protocol/ and system/.

export type RunsDeps = LaunchDeps &
  SuperviseDeps &
  RetentionDeps &
  Omit<ReconcileDeps, "markers" | "isLaunching">;

export type Runs = ReturnType<typeof createRuns>;

/** Launches runs, at most once for each token, and reports what became of them. */
export function createRuns(deps: RunsDeps) {
  const { store, executor, clock } = deps;
  const requests = holdRequests();
  const reconciling = createReconcile({
    ...deps,
    isLaunching: (runId) => launches.isUnderWay(runId),
    markers: async () => markersOf(await deps.recipes.current(), deps.scripts),
  });
  const { reconcile, reconcileAll } = reconciling;
  const carryOut = createStops(deps);
  const launches = createLaunches(deps, { reconcile, reconcileAlive });
  const findStarted = createFind(store, reconcile);
  /** After the launch of this run, if it is under way here. */
  const find: FindRun = async (source, runId) => {
    await launches.over(runId);
    return findStarted(source, runId);
  };

  async function reconcileAlive(): Promise<void> {
    await reconciled(store.alive());
  }

  /** Throws the first failure that is not about a file of one run: that run is then as it was known. */
  async function reconciled(known: readonly Run[]): Promise<Run[]> {
    const { runs, failures } = await reconcileAll(known);
    const failure = failures.find((each) => !isOfOneFile(each));
    if (failure !== undefined) throw failure;
    return runs;
  }

  async function list({ source, status, label, limit, cursor }: RunsQuery): Promise<RunList> {
    // With a filter it matters what a run is, so all that may have changed are looked at first.
    if (status !== undefined) await reconcileAlive();
    const before = cursor === undefined ? undefined : Number(cursor);
    const { runs: page, next } = store.list({ source, status, label, before, limit });
    const runs = status === undefined ? await reconciled(page) : page;
    return { runs: runs.map(publicRun), next_cursor: next === undefined ? null : String(next) };
  }

  return {
    launch: launches.launch,
    preview: launches.preview,
    list,
    ...createWaits({ store, executor, find, reconcile, isLaunching: launches.isUnderWay, requests }),
    kill: createKill({ executor, clock, find, reconcile, carryOut }),
    supervise: createSupervision(deps, reconciling, carryOut),
    forgetDue: createRetention(deps),
    stopWaiting: requests.stopWaiting,
    /** Resolves once no request that may wait is under way, for clients that hung up included. */
    stopHolding: requests.stop,
    async reconcileAndCountAlive(): Promise<number> {
      await reconcileAlive();
      return store.countAlive();
    },
    countAlive: () => store.countAlive(),
    /** What keeps the state from being written, in a sentence without paths; undefined when nothing does. */
    stateProblem: (): string | undefined =>
      reconciling.writeError() === undefined ? undefined : "the state of runs cannot be written now",
  };
}

type Catalogue = Awaited<ReturnType<LaunchDeps["recipes"]["current"]>>;

/** The markers of the run's recipe, or else those of the catalogue; none for a script that turns them off. */
function markersOf(catalogue: Catalogue, scripts: LaunchDeps["scripts"]): MarkersOf {
  return ({ source, spec, specSha256 }) => {
    const isOff = "path" in spec && specSha256 !== undefined && scripts.hasMarkersOff(spec.path, specSha256);
    if (isOff) return [];
    const id = source === "pipeline" && "recipe_id" in spec ? spec.recipe_id : "";
    return catalogue.recipes.get(id)?.error_markers ?? catalogue.error_markers;
  };
}
