import type { RunsQuery } from "../protocol/agent.ts";
import type { Reach } from "../protocol/reach.ts";
import type { RunList } from "../protocol/run.ts";
import type { Run } from "../store/run.ts";
import type { ListQuery } from "../store/list-query.ts";
import type { RunPage } from "../store/run-queries.ts";
import { isOfOneFile } from "../system/exhaustion.ts";
import type { MarkersOf } from "./end-of-run.ts";
import { createFind, type FindRun } from "./find.ts";
import { holdRequests } from "./held.ts";
import { createKill } from "./kill.ts";
import { createLaunches, type LaunchDeps } from "./launch.ts";
import { createLookAtLive, lookInParts } from "./look-at-live.ts";
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
  const find: FindRun = async (source, runId, reach) => {
    await launches.over(runId);
    return findStarted(source, runId, reach);
  };

  const lookAtLive = createLookAtLive(store, reconcileAll, deps.sliceMs);

  async function reconcileAlive(): Promise<void> {
    throwIfAny(await lookAtLive());
  }

  async function reconciled(known: readonly Run[]): Promise<Run[]> {
    const { runs, failures } = await lookInParts(known, reconcileAll, deps.sliceMs);
    throwIfAny(failures);
    return runs;
  }

  async function list({ cursor, ...query }: RunsQuery, reach?: Reach): Promise<RunList> {
    const from = { ...query, reach, before: cursor === undefined ? undefined : Number(cursor) };
    const { runs, next } = await pageOf(from);
    return { runs: runs.map(publicRun), next_cursor: next === undefined ? null : String(next) };
  }

  async function pageOf(query: ListQuery): Promise<RunPage> {
    if (query.status === "running") return pageOfRunning(query);
    // A run that has just ended belongs to the page, and anything that was alive may be it.
    if (query.status !== undefined) await reconcileAlive();
    const { runs, next } = store.list(query);
    return { runs: query.status === undefined ? await reconciled(runs) : runs, next };
  }

  /** A run that is running is recorded as running: so only those on the page are looked at, and those that have ended replaced by the next ones. */
  async function pageOfRunning(query: ListQuery): Promise<RunPage> {
    const running: Run[] = [];
    let { before } = query;
    for (let parts = 1; ; parts++) {
      const limit = query.limit - running.length;
      const { runs, next } = store.list({ ...query, before, limit });
      running.push(...(await reconciled(runs)).filter(isRunning));
      // A part that is shorter than it may be has long texts.
      const isFull = running.length >= query.limit || runs.length < limit;
      if (next === undefined || isFull || parts === MAX_PARTS) return { runs: running, next };
      before = next;
    }
  }

  return {
    launch: launches.launch,
    preview: launches.preview,
    list,
    ...createWaits({
      store,
      executor,
      find,
      reconcile,
      isLaunching: launches.isUnderWay,
      requests,
      bootId: deps.self.bootId,
    }),
    kill: createKill({ executor, clock, find, reconcile, carryOut }),
    supervise: createSupervision(deps, reconciling, carryOut),
    forgetDue: createRetention(deps),
    stopWaiting: requests.stopWaiting,
    /** Resolves once no request that may wait is under way, for clients that hung up included. */
    async stopHolding(): Promise<void> {
      launches.stopWaiting();
      await requests.stop();
    },
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

/** A page of running runs is filled up so often; after that it is shorter than it may be. */
const MAX_PARTS = 8;

function isRunning({ status, endedAt }: Run): boolean {
  return endedAt === undefined && (status === "running" || status === "launching");
}

/** Throws the first failure that is not about a file of one run: that run is then as it was known. */
function throwIfAny(failures: readonly unknown[]): void {
  const failure = failures.find((each) => !isOfOneFile(each));
  if (failure !== undefined) throw failure;
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
