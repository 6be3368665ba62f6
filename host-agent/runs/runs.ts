import type { ProcessIdentity } from "../executor/executor.ts";
import { readPage } from "../logs/log-file.ts";
import type { LogQuery, RunsQuery, WaitQuery } from "../protocol/agent.ts";
import { ApiProblem } from "../protocol/problem.ts";
import type { KillOrder, RunList, RunRecord, Source } from "../protocol/run.ts";
import type { AdvisoryLock } from "../store/advisory-lock.ts";
import type { Run } from "../store/run.ts";
import { sleep } from "../system/sleep.ts";
import { handleOf } from "./handle.ts";
import { holdRequests } from "./held.ts";
import { createLaunches, type LaunchDeps } from "./launch.ts";
import { createReconcile, type MarkersOf } from "./reconcile.ts";
import { publicRun } from "./record.ts";
import { createStops } from "./stop.ts";
import { createSupervision, type SuperviseDeps } from "./supervise.ts";

// The room `runs/`: what a run is and what may become of it. It imports no node:* and looks at no file or process
// itself: the executor, logs/ and store/ do that. It may import the port executor/executor.ts, store/, logs/,
// catalogue/, protocol/ and system/.

export type RunsDeps = LaunchDeps &
  SuperviseDeps & {
    signalLock: AdvisoryLock;
    /** Whether another agent is alive. */
    isAgentAlive(agent: ProcessIdentity): boolean;
  };

export type Runs = ReturnType<typeof createRuns>;

/** How often a reader at the end of a log over its limit looks whether the run has ended. */
const CUT_LOG_INTERVAL_MS = 500;

/** Launches runs, at most once for each token, and reports what became of them. */
export function createRuns(deps: RunsDeps) {
  const { store, executor, now } = deps;
  const requests = holdRequests();
  const reconciling = createReconcile({
    ...deps,
    isLaunching: (runId) => launches.isUnderWay(runId),
    markers: async () => markersOf(await deps.recipes.current()),
  });
  const { reconcile, reconcileAll } = reconciling;
  const carryOut = createStops(deps);
  const launches = createLaunches(deps, { reconcile, reconcileAlive });

  async function find(source: Source, runId: string): Promise<Run> {
    const run = store.get(runId);
    if (run?.source !== source) throw noSuchRun(source, runId);
    return reconcile(run);
  }

  async function reconcileAlive(): Promise<void> {
    await reconciled(store.alive());
  }

  /** Throws the first failure. */
  async function reconciled(known: readonly Run[]): Promise<Run[]> {
    const { runs, failures } = await reconcileAll(known);
    if (failures.length > 0) throw failures[0];
    return runs;
  }

  async function list({ source, status, label, limit, cursor }: RunsQuery): Promise<RunList> {
    // With a filter it matters what a run is, so all that may have changed are looked at first.
    if (status !== undefined) await reconcileAlive();
    const before = cursor === undefined ? undefined : Number(cursor);
    const found = store.list({ source, status, label, before, limit: limit + 1 });
    const page = found.slice(0, limit);
    const runs = status === undefined ? await reconciled(page) : page;
    const last = page.at(-1);
    return {
      runs: runs.map(publicRun),
      next_cursor: found.length > limit && last ? String(last.seq) : null,
    };
  }

  /** The run's record now; with `waitSeconds` as soon as the run has ended, or after that time. */
  async function get(source: Source, runId: string, wait: WaitQuery = {}): Promise<RunRecord> {
    await launches.over(runId);
    const { waitSeconds = 0, signal } = wait;
    return waitSeconds > 0
      ? requests.hold(waitSeconds, () => getEnded(source, runId, waitSeconds, requests.orStopping(signal)))
      : publicRun(await find(source, runId));
  }

  async function getEnded(
    source: Source,
    runId: string,
    waitSeconds: number,
    signal: AbortSignal,
  ): Promise<RunRecord> {
    const waitUntil = performance.now() + waitSeconds * 1000;
    for (;;) {
      using change = executor.watch(runId, [], signal);
      const run = await find(source, runId);
      const left = waitUntil - performance.now();
      if (run.endedAt !== undefined || left <= 0 || signal.aborted) return publicRun(run);
      await sleep(left, change.changed);
    }
  }

  async function kill(source: Source, runId: string, order: KillOrder, keyName: string): Promise<RunRecord> {
    await launches.over(runId);
    const found = await find(source, runId);
    if (found.endedAt === undefined) await executor.ready(handleOf(found));
    const { signal, grace_seconds: grace } = order;
    const deadline = grace === undefined ? undefined : now() + grace * 1000;
    const event = { type: "kill", signal, keyName, deadline } as const;
    const { run, decision } = carryOut(await reconcile(found), event);
    if (decision.do === "nothing" && run.status === "killed") return publicRun(run);
    if (decision.do === "refuse") throw decision.why === "ended" ? runEnded(run) : stillLaunching(run);
    if (signal === "SIGKILL") await executor.kill(handleOf(run));
    const current = await reconcile(run);
    if (current.status !== "killed") throw runEnded(current);
    return publicRun(current);
  }

  async function readLog(source: Source, runId: string, query: LogQuery) {
    const { after, maxBytes, waitSeconds } = query;
    const signal = requests.orStopping(query.signal);
    const waitUntil = performance.now() + waitSeconds * 1000;
    await launches.over(runId);
    for (;;) {
      const logPath = waitSeconds > 0 ? store.get(runId)?.logPath : undefined;
      using change = logPath === undefined ? undefined : executor.watch(runId, [logPath], signal);
      const run = await find(source, runId);
      const growing = run.endedAt === undefined;
      const page = await readPage(run.logPath, { after, maxBytes, growing, limit: run.logLimit });
      const left = waitUntil - performance.now();
      if (page.bytes.length > 0 || !growing || left <= 0 || signal.aborted) return page;
      // After its limit the file changes all the time, and the log never.
      await (page.isCut || !change ? sleep(CUT_LOG_INTERVAL_MS) : sleep(left, change.changed));
    }
  }

  return {
    launch: launches.launch,
    preview: launches.preview,
    list,
    get,
    kill,
    supervise: createSupervision(deps, reconciling, carryOut),
    readLog: async (source: Source, runId: string, query: LogQuery) =>
      requests.hold(query.waitSeconds, () => readLog(source, runId, query)),
    stopWaiting: requests.stopWaiting,
    /** Resolves once no request that may wait is under way, for clients that hung up included. */
    stopHolding: requests.stop,
    async reconcileAndCountAlive(): Promise<number> {
      await reconcileAlive();
      return store.countAlive();
    },
    countAlive: () => store.countAlive(),
  };
}

type Catalogue = Awaited<ReturnType<LaunchDeps["recipes"]["current"]>>;

/** The markers of the run's recipe, or else those of the catalogue. */
function markersOf(catalogue: Catalogue): MarkersOf {
  return ({ source, spec }) => {
    const id = source === "pipeline" && "recipe_id" in spec ? spec.recipe_id : "";
    return catalogue.recipes.get(id)?.error_markers ?? catalogue.error_markers;
  };
}

function noSuchRun(source: Source, runId: string): ApiProblem {
  return new ApiProblem("run_not_found", `run_id: there is no ${source} run ${runId}`);
}

/** Another agent on this state folder is starting it: nothing of it can be signalled yet, and nothing is recorded. */
function stillLaunching({ runId }: Run): ApiProblem {
  return new ApiProblem("host_unavailable", `${runId} is being started at this moment; kill it again`, {
    retryAfterSeconds: 1,
  });
}

function runEnded(run: Run): ApiProblem {
  return new ApiProblem("run_ended", `${run.runId} has already ended by itself: it is ${run.status}`);
}
