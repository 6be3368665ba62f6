import { randomBytes } from "node:crypto";
import { lstatSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import type { CallbackRules } from "./callback-rules.ts";
import { buildEnvironment } from "./environment.ts";
import {
  type LaunchPlan,
  logFileName,
  logFilePattern,
  planLaunch,
  previewArgv,
  type StartRun,
} from "./launch.ts";
import { readPage } from "./log-file.ts";
import { watchForChange } from "./log-wait.ts";
import type { ProcessIdentity } from "./process-identity.ts";
import type { LogQuery, RunsQuery, WaitQuery } from "./protocol/agent.ts";
import { ApiProblem } from "./protocol/problem.ts";
import {
  IDEMPOTENCY_TTL_SECONDS,
  type KillOrder,
  type LaunchAnswer,
  type LaunchOrder,
  type LaunchPreview,
  type PipelineSpec,
  type PreviewOrder,
  type RunList,
  type RunRecord,
  type Source,
} from "./protocol/schemas.ts";
import type { Recipes } from "./recipes.ts";
import { pruneRuns } from "./retention.ts";
import type { RunUser } from "./run-as.ts";
import { runFolder } from "./run-files.ts";
import type { RunStore, StoredRun } from "./run-store.ts";
import type { Scripts } from "./scripts.ts";
import { ALIVE, createSettle, cutLogOf } from "./settle.ts";
import { commandStarted, deliver, killTree, LIMIT_GRACE_MS, stopRun } from "./stop.ts";

export interface RunsDeps {
  store: RunStore;
  recipes: Recipes;
  scripts: Scripts;
  stateDir: string;
  /** The environment of the agent, of which a run sees a few variables. */
  env: Readonly<Record<string, string | undefined>>;
  self: ProcessIdentity;
  /** At most so many runs at once. */
  maxRunning: number;
  /** Which callback URLs are taken. */
  callbackRules: CallbackRules;
  /** A log shows at most so many bytes of its run. */
  maxLogBytes?: number | undefined;
  /** A run whose log is over the limit is stopped; else it goes on. */
  stopAtLogLimit?: boolean;
  /** Ended runs are forgotten after so many days. */
  keepRunsDays?: number | undefined;
  /** Runs are started as this user; undefined for the agent's own. */
  runUser?: RunUser | undefined;
  /** Told of each run that has been forgotten. */
  onPruned?(run: StoredRun): void;
  startRun: StartRun;
  now(): number;
}

export type Runs = ReturnType<typeof createRuns>;

/** How often a reader at the end of a log over its limit looks whether the run has ended. */
const CUT_LOG_INTERVAL_MS = 500;
/** For how long a launch waits for another agent that is launching the same token. */
const FOREIGN_LAUNCH_LOOKS = 200;
const FOREIGN_LAUNCH_INTERVAL_MS = 50;

const DAY_MS = 86_400_000;
/** The logs of runs that ended within a day are looked at so often. */
const LEFT_LOGS_INTERVAL_MS = 60_000;

/** Launches runs, at most once for each token, and tells what became of them. */
export function createRuns(deps: RunsDeps) {
  const { store, recipes, scripts, stateDir, now } = deps;
  const logDir = join(stateDir, "logs");
  /** The launches this agent is in the middle of, by run id. */
  const launching = new Map<string, Promise<StoredRun>>();
  /** The logs of these launches, which may not be there yet. */
  const startingLogs = new Set<string>();
  let leftLogsCutAt = 0;
  const stopping = new AbortController();
  /** What is under way and perhaps held: reads of logs, and waits for a run's end. */
  const held = new Set<Promise<unknown>>();

  const { settle, settleAll } = createSettle({
    store,
    stateDir,
    now,
    self: deps.self,
    isLaunching: (runId) => launching.has(runId),
    async markers() {
      const catalogue = await recipes.current();
      return ({ source, spec }) => {
        const id = source === "pipeline" ? (JSON.parse(spec) as PipelineSpec).recipe_id : "";
        return catalogue.recipes.get(id)?.error_markers ?? catalogue.error_markers;
      };
    },
  });

  async function find(source: Source, runId: string): Promise<StoredRun> {
    const run = store.get(runId);
    if (run?.source !== source) throw noSuchRun(source, runId);
    return settle(run);
  }

  function track<T>(work: Promise<T>): Promise<T> {
    const tracked = work.finally(() => held.delete(tracked));
    held.add(tracked);
    return tracked;
  }

  function orStopping(signal: AbortSignal | undefined): AbortSignal {
    return signal ? AbortSignal.any([signal, stopping.signal]) : stopping.signal;
  }

  function notBefore(): number {
    return now() - IDEMPOTENCY_TTL_SECONDS * 1000;
  }

  async function launch(order: LaunchOrder): Promise<LaunchAnswer> {
    const known = store.findByToken(order.launch_token, notBefore());
    if (known) return replay(known, order);
    const plan = await planOf(order);
    // Some may have ended since anybody looked: only runs that are alive fill the host.
    if (limitReached(plan) !== undefined) await settleAlive();
    // Nothing is awaited from the record to `launching`: in between, it would look interrupted.
    const { run, isNew } = record(order, plan);
    if (!isNew) return replay(run, order);
    startingLogs.add(run.log_path);
    const started = start(run, plan).finally(() => {
      launching.delete(run.run_id);
      startingLogs.delete(run.log_path);
    });
    launching.set(run.run_id, started);
    return { run: publicRun(await started), replayed: false };
  }

  async function planOf(order: PreviewOrder): Promise<LaunchPlan> {
    if (order.callback_url !== undefined) deps.callbackRules.check(order.callback_url);
    return planLaunch(order, { recipes, scripts, logDir });
  }

  /** What a launch would come to now. Starts nothing and records nothing. */
  async function preview(order: PreviewOrder): Promise<LaunchPreview> {
    const plan = await planOf(order);
    await settleAlive();
    const env = buildEnvironment(deps.env, "", plan.env);
    const problems: ApiProblem[] = [];
    const argv = await previewArgv(plan, env).catch((error: ApiProblem) => {
      problems.push(error);
      return plan.argv;
    });
    // What would be refused first is told first.
    const limit = limitReached(plan);
    const [problem] = limit === undefined ? problems : [tooManyRuns(limit)];
    return {
      dry_run: true,
      source: order.source,
      would_start: problem === undefined,
      reason: problem === undefined ? null : `${problem.message}.`,
      code: problem?.code ?? null,
      argv,
      cmd: plan.cmd,
      cwd: plan.cwd,
      log_path_pattern: join(plan.logDir, logFilePattern(plan.logName)),
      environment: Object.keys(env).toSorted(),
      terminal: plan.terminal,
      spec_sha256: plan.script?.sha256 ?? null,
      limits: {
        timeout_seconds: plan.timeoutSeconds ?? null,
        max_running: plan.maxRunning ?? null,
        running: plan.recipeId === undefined ? null : countRecipe(plan.recipeId),
        host_max_running: deps.maxRunning,
        host_running: store.countAlive(),
      },
    };
  }

  function record(order: LaunchOrder, plan: LaunchPlan): { run: StoredRun; isNew: boolean } {
    const runId = `run_${randomBytes(6).toString("hex")}`;
    const startedAt = now();
    return store.insertOrFind(
      {
        run_id: runId,
        source: order.source,
        spec: JSON.stringify(order.spec),
        cmd: plan.cmd,
        log_path: freeLogPath(plan, runId, new Date(startedAt)),
        key_name: order.key_name,
        spec_sha256: plan.script?.sha256 ?? null,
        label: order.label ?? null,
        callback_url: order.callback_url,
        started_at: startedAt,
        fingerprint: order.fingerprint,
        timeout_seconds: plan.timeoutSeconds ?? null,
        log_limit: deps.maxLogBytes ?? null,
        launch_token: order.launch_token,
        launcher: deps.self,
      },
      notBefore(),
      () => refuseWhenFull(plan),
    );
  }

  /** A second run in the same second gets a suffix. */
  function freeLogPath(plan: LaunchPlan, runId: string, startedAt: Date): string {
    const path = join(plan.logDir, logFileName(plan.logName, startedAt));
    const isTaken = isThere(path) || startingLogs.has(path);
    return isTaken ? join(plan.logDir, logFileName(plan.logName, startedAt, `_${runId.slice(4)}`)) : path;
  }

  /** The limit that one more run would break, in a sentence; undefined when there is room. */
  function limitReached(plan: LaunchPlan): string | undefined {
    if (store.countAlive() >= deps.maxRunning) return `The host runs ${deps.maxRunning} runs, its limit`;
    if (plan.maxRunning === undefined) return undefined;
    if (countRecipe(plan.recipeId) < plan.maxRunning) return undefined;
    return `The recipe ${plan.recipeId} may run ${plan.maxRunning} times at once, and does`;
  }

  /** How many runs of a recipe are alive. */
  function countRecipe(recipeId: string | undefined): number {
    return store.alive().filter((run) => JSON.parse(run.spec).recipe_id === recipeId).length;
  }

  function refuseWhenFull(plan: LaunchPlan): void {
    const limit = limitReached(plan);
    if (limit !== undefined) throw tooManyRuns(limit);
  }

  async function start(run: StoredRun, plan: LaunchPlan): Promise<StoredRun> {
    try {
      const { process, logFile } = await deps.startRun(plan, {
        folder: runFolder(stateDir, run.run_id),
        logPath: run.log_path,
        env: buildEnvironment(deps.env, run.run_id, plan.env, deps.runUser),
        runUser: deps.runUser,
      });
      const started = store.markRunning(run.run_id, process, logFile, ALIVE);
      if (plan.script && !scripts.isUnchanged(plan.script)) return await stopChanged(started);
      return started;
    } catch (error) {
      if (error instanceof ApiProblem) {
        store.failLaunch(run.run_id, { status_reason: `${error.message}.`, ended_at: now() });
      }
      throw error;
    }
  }

  async function replay(run: StoredRun, order: LaunchOrder): Promise<LaunchAnswer> {
    if (run.fingerprint !== order.fingerprint) {
      throw new ApiProblem(
        "idempotency_key_reused",
        `The Idempotency-Key was used within the last hour for another request, which started ${run.run_id}; use a new key`,
      );
    }
    const current = await launched(run);
    // A launch that failed has freed its token: this is a new one.
    if (current.launch_token !== order.launch_token) return launch(order);
    return { run: publicRun(current), replayed: true };
  }

  /** The run once its launch is over, whoever launches it. Rejects as the launch does. */
  async function launched(run: StoredRun): Promise<StoredRun> {
    await launching.get(run.run_id);
    let current = await settle(store.get(run.run_id) ?? run);
    for (let looks = 0; current.status === "launching" && looks < FOREIGN_LAUNCH_LOOKS; looks++) {
      await sleep(FOREIGN_LAUNCH_INTERVAL_MS);
      current = await settle(store.get(run.run_id) ?? run);
    }
    return current;
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
    await launching.get(runId)?.catch(() => undefined);
    const { waitSeconds = 0, signal } = wait;
    return waitSeconds > 0
      ? track(getEnded(source, runId, waitSeconds, orStopping(signal)))
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
      await Promise.race([change.changed, sleep(left, undefined, { ref: false })]);
    }
  }

  async function kill(source: Source, runId: string, order: KillOrder, keyName: string): Promise<RunRecord> {
    await launching.get(runId)?.catch(() => undefined);
    await commandStarted(await find(source, runId));
    await find(source, runId);
    // From here on nothing is awaited until the signal is recorded: of kills at one time, one sends it.
    const run = store.get(runId)!;
    if (run.ended_at !== null && run.status === "killed") return publicRun(run);
    if (run.ended_at !== null) throw runEnded(run);
    if (run.status === "killed" && !asksForMore(run, order)) return publicRun(run);

    const deadline = order.grace_seconds === undefined ? null : now() + order.grace_seconds * 1000;
    // A grace period added later only says when SIGKILL follows: the signal itself is sent once.
    if (run.status === "killed" && order.signal !== "SIGKILL") {
      return publicRun(store.update(run.run_id, { stop_deadline: deadline }));
    }
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
    await launching.get(runId)?.catch(() => undefined);
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
      const changed = page.isCut ? sleep(CUT_LOG_INTERVAL_MS, undefined, { ref: false }) : change.changed;
      await Promise.race([changed, sleep(left, undefined, { ref: false })]);
    }
  }

  /**
   * Looks after the runs that are alive: notices those that have ended, ends
   * those that are over their time or grace, and keeps logs and runs within their
   * limits. Meant to be called every second.
   */
  async function supervise(): Promise<void> {
    const { runs, failures } = await settleAll(store.alive());
    for (const run of runs) {
      if (run.ended_at !== null || run.status === "launching") continue;
      const isLogFull = cutLogOf(run);
      const isLate = run.timeout_seconds !== null && now() > run.started_at + run.timeout_seconds * 1000;
      if (run.stop_cause === null && isLate) {
        stopRun(store, run, {
          cause: "timeout",
          signal: "SIGTERM",
          keyName: null,
          deadline: now() + LIMIT_GRACE_MS,
        });
      } else if (run.stop_cause === null && isLogFull && deps.stopAtLogLimit) {
        stopRun(store, run, {
          cause: "log_limit",
          signal: "SIGTERM",
          keyName: null,
          deadline: now() + LIMIT_GRACE_MS,
        });
      } else if (run.stop_cause !== null && run.stop_sent === 0) {
        deliver(store, run);
      } else if (run.stop_deadline !== null && now() >= run.stop_deadline) {
        store.update(run.run_id, { stop_escalated: run.stop_signal === "SIGKILL" ? 0 : 1 });
        await killTree(run);
        await settle(store.get(run.run_id) ?? run);
      }
    }
    cutLeftLogs();
    if (deps.keepRunsDays !== undefined) {
      const pruned = pruneRuns(store, stateDir, now() - deps.keepRunsDays * DAY_MS);
      for (const run of pruned) deps.onPruned?.(run);
    }
    // Last: one run that cannot be looked at keeps no other from being looked after.
    if (failures.length > 0) throw failures[0];
  }

  /** A run that has ended may have left a child that writes on. */
  function cutLeftLogs(): void {
    if (Math.abs(now() - leftLogsCutAt) < LEFT_LOGS_INTERVAL_MS) return;
    leftLogsCutAt = now();
    for (const run of store.limitedEndedSince(now() - DAY_MS)) cutLogOf(run);
  }

  return {
    launch,
    preview,
    list,
    get,
    kill,
    supervise,
    readLog: (source: Source, runId: string, query: LogQuery) => track(readLog(source, runId, query)),
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

/** Whether anything is at `path`, a link that leads nowhere included. */
function isThere(path: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch {
    return false;
  }
}

/** What runs by now is not what was approved: it may not go on. */
async function stopChanged(run: StoredRun): Promise<never> {
  await killTree(run);
  throw new ApiProblem("launch_failed", "The script was changed while it was being started; it was stopped");
}

/** The run as clients see it. */
export function publicRun(run: StoredRun): RunRecord {
  return {
    run_id: run.run_id,
    source: run.source,
    spec: JSON.parse(run.spec) as RunRecord["spec"],
    pid: run.pid === null ? null : String(run.pid),
    log_path: run.log_path,
    cmd: run.cmd,
    started_at: toSeconds(run.started_at),
    ended_at: run.ended_at === null ? null : toSeconds(run.ended_at),
    status: run.status === "launching" ? "running" : run.status,
    status_reason: run.status_reason,
    exit_code: run.exit_code,
    signal: run.signal,
    spec_sha256: run.spec_sha256,
    label: run.label,
    key_name: run.key_name,
  };
}

function toSeconds(milliseconds: number): number {
  return Math.floor(milliseconds / 1000);
}

/** A kill is repeated by retries, so only one that asks for more than the first does anything. */
function asksForMore(run: StoredRun, order: KillOrder): boolean {
  if (run.stop_signal === "SIGKILL" || run.stop_escalated === 1) return false;
  return order.signal === "SIGKILL" || (order.grace_seconds !== undefined && run.stop_deadline === null);
}

function tooManyRuns(limit: string): ApiProblem {
  return new ApiProblem("too_many_runs", `${limit}; try again later`, { retryAfterSeconds: 10 });
}

function noSuchRun(source: Source, runId: string): ApiProblem {
  return new ApiProblem("run_not_found", `run_id: there is no ${source} run ${runId}`);
}

function runEnded(run: StoredRun): ApiProblem {
  return new ApiProblem("run_ended", `${run.run_id} has already ended by itself: it is ${run.status}`);
}
