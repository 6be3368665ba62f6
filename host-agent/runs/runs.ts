import { createLaunches, type LaunchesDeps } from "./launch.ts";
import { readPage } from "../logs/log-file.ts";
import { watchForChange } from "../logs/log-wait.ts";
import type { LogQuery, RunsQuery, WaitQuery } from "../protocol/agent.ts";
import { ApiProblem } from "../protocol/problem.ts";
import type { KillOrder, RunList, RunRecord, Source } from "../protocol/run.ts";
import type { PipelineSpec } from "../protocol/spec.ts";
import { publicRun } from "./record.ts";
import { runFolder } from "../executor/run-folder.ts";
import type { StoredRun } from "../store/run-store.ts";
import { createSettle } from "./reconcile.ts";
import { commandStarted, killTree, stopRun } from "./stop.ts";
import { createSupervision, type SupervisionDeps } from "./supervise.ts";

export type RunsDeps = LaunchesDeps & SupervisionDeps;

export type Runs = ReturnType<typeof createRuns>;

/** How often a reader at the end of a log over its limit looks whether the run has ended. */
const CUT_LOG_INTERVAL_MS = 500;
/** So many requests may be held at a time. */
const MAX_HELD = 500;

/** Launches runs, at most once for each token, and tells what became of them. */
export function createRuns(deps: RunsDeps) {
  const { store, recipes, stateDir, now } = deps;
  const stopping = new AbortController();
  /** What is under way and perhaps held: reads of logs, and waits for a run's end. */
  const held = new Set<Promise<unknown>>();

  const { settle, settleAll } = createSettle({
    store,
    stateDir,
    now,
    self: deps.self,
    isLaunching: (runId) => launches.isUnderWay(runId),
    async markers() {
      const catalogue = await recipes.current();
      return ({ source, spec }) => {
        const id = source === "pipeline" ? (JSON.parse(spec) as PipelineSpec).recipe_id : "";
        return catalogue.recipes.get(id)?.error_markers ?? catalogue.error_markers;
      };
    },
  });

  const launches = createLaunches(deps, { settle, settleAlive });

  async function find(source: Source, runId: string): Promise<StoredRun> {
    const run = store.get(runId);
    if (run?.source !== source) throw noSuchRun(source, runId);
    return settle(run);
  }

  function track<T>(waitSeconds: number, begin: () => Promise<T>): Promise<T> {
    // Each is a watch of its own, and all of one run wake at once.
    if (waitSeconds > 0 && held.size >= MAX_HELD) throw tooManyHeld();
    const tracked = begin().finally(() => held.delete(tracked));
    held.add(tracked);
    return tracked;
  }

  function orStopping(signal: AbortSignal | undefined): AbortSignal {
    return signal ? AbortSignal.any([signal, stopping.signal]) : stopping.signal;
  }

  async function settleAlive(): Promise<void> {
    const { failures } = await settleAll(store.alive());
    if (failures.length > 0) throw failures[0];
  }

  async function list({ source, status, label, limit, cursor }: RunsQuery): Promise<RunList> {
    // With a filter it matters what a run is, so all that may have changed are looked at first.
    if (status !== undefined) await settleAlive();
    const before = cursor === undefined ? undefined : Number(cursor);
    const found = store.list({ source, status, label, before, limit: limit + 1 });
    const page = found.slice(0, limit);
    const runs = status === undefined ? await Promise.all(page.map(settle)) : page;
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
      ? track(waitSeconds, () => getEnded(source, runId, waitSeconds, orStopping(signal)))
      : publicRun(await find(source, runId));
  }

  async function getEnded(
    source: Source,
    runId: string,
    waitSeconds: number,
    signal: AbortSignal,
  ): Promise<RunRecord> {
    const giveUpAt = performance.now() + waitSeconds * 1000;
    for (;;) {
      // Its folder, and not its log: only an exit code says that there is something to see.
      using change = watchForChange([runFolder(stateDir, runId).path], signal);
      const run = await find(source, runId);
      const left = giveUpAt - performance.now();
      if (run.ended_at !== null || left <= 0 || signal.aborted) return publicRun(run);
      await within(left, change.changed);
    }
  }

  async function kill(source: Source, runId: string, order: KillOrder, keyName: string): Promise<RunRecord> {
    await launches.over(runId);
    await commandStarted(await find(source, runId));
    await find(source, runId);
    const run = store.get(runId)!;
    if (run.ended_at !== null && run.status === "killed") return publicRun(run);
    if (run.ended_at !== null) throw runEnded(run);
    if (run.status === "launching") throw stillLaunching(run);
    if (run.status === "killed" && !asksForMore(run, order)) return publicRun(run);

    const deadline = order.grace_seconds === undefined ? null : now() + order.grace_seconds * 1000;
    const stopped = stopRun(store, run, { cause: "kill", signal: order.signal, keyName, deadline });
    if (order.signal === "SIGKILL") await killTree(stopped);
    const current = await settle(stopped);
    if (current.status !== "killed") throw runEnded(current);
    return publicRun(current);
  }

  async function readLog(source: Source, runId: string, query: LogQuery) {
    const { after, maxBytes, waitSeconds } = query;
    const signal = orStopping(query.signal);
    const giveUpAt = performance.now() + waitSeconds * 1000;
    await launches.over(runId);
    for (;;) {
      const stored = store.get(runId);
      using change = watchForChange(
        waitSeconds > 0 && stored ? [stored.log_path, runFolder(stateDir, runId).path] : [],
        signal,
      );
      const run = await find(source, runId);
      const growing = run.ended_at === null;
      const page = await readPage(run.log_path, { after, maxBytes, growing, limit: run.log_limit });
      const left = giveUpAt - performance.now();
      if (page.bytes.length > 0 || !growing || left <= 0 || signal.aborted) return page;
      // Behind its limit the file changes all the time, and the log never.
      await (page.isCut ? within(CUT_LOG_INTERVAL_MS) : within(left, change.changed));
    }
  }

  return {
    launch: launches.launch,
    preview: launches.preview,
    list,
    get,
    kill,
    supervise: createSupervision(deps, { settle, settleAll }),
    readLog: async (source: Source, runId: string, query: LogQuery) =>
      track(query.waitSeconds, () => readLog(source, runId, query)),
    stopWaiting: () => stopping.abort(),
    /** Resolves once nothing that may be held is under way, for clients that hung up included. */
    async stopHolding(): Promise<void> {
      stopping.abort();
      await Promise.allSettled(held);
    },
    async settleAndCountAlive(): Promise<number> {
      await settleAlive();
      return store.countAlive();
    },
    countAlive: () => store.countAlive(),
  };
}

/** Resolves with `event`, and after `ms` at the latest. */
async function within(ms: number, event?: Promise<unknown>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  timer.unref();
  await Promise.race(event ? [event, promise] : [promise]);
  clearTimeout(timer);
}

/** A kill is repeated by retries, so only one that asks for more than the first does anything. */
function asksForMore(run: StoredRun, order: KillOrder): boolean {
  if (run.stop_signal === "SIGKILL" || run.stop_escalated === 1) return false;
  return order.signal === "SIGKILL" || (order.grace_seconds !== undefined && run.stop_deadline === null);
}

function tooManyHeld(): ApiProblem {
  return new ApiProblem(
    "rate_limited",
    `The host holds ${MAX_HELD} requests that wait, its limit; ask without waiting, or again later`,
    { retryAfterSeconds: 1 },
  );
}

function noSuchRun(source: Source, runId: string): ApiProblem {
  return new ApiProblem(
    "run_not_found",
    `run_id: there is no ${source} run ${runId}; GET /api/v1/${source}s/runs lists them`,
  );
}

/** Another agent on this state folder is starting it: nothing of it can be signalled yet, and nothing is recorded. */
function stillLaunching({ run_id }: StoredRun): ApiProblem {
  return new ApiProblem("host_unavailable", `${run_id} is being started at this moment; kill it again`, {
    retryAfterSeconds: 1,
  });
}

function runEnded(run: StoredRun): ApiProblem {
  return new ApiProblem("run_ended", `${run.run_id} has already ended by itself: it is ${run.status}`);
}
