import { randomBytes } from "node:crypto";
import { lstatSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { atEndOfTurn } from "../system/end-of-turn.ts";
import { buildEnvironment } from "../executor/environment.ts";
import { type LaunchPlan, type PlanDeps, planLaunch } from "./launch-plan.ts";
import { previewLaunch } from "./preview.ts";
import { logFileName } from "../logs/log-name.ts";
import type { ProcessIdentity } from "../executor/process-identity.ts";
import { ApiProblem } from "../protocol/problem.ts";
import {
  IDEMPOTENCY_TTL_SECONDS,
  type LaunchAnswer,
  type LaunchOrder,
  type PreviewOrder,
} from "../protocol/launch.ts";
import { publicRun } from "./record.ts";
import { createRoom } from "./admission.ts";
import type { RunUser } from "../executor/run-as.ts";
import { runFolder } from "../executor/run-folder.ts";
import type { RunStore, StoredRun } from "../store/run-store.ts";
import { ALIVE } from "./reconcile.ts";
import { SpawnerLost } from "../executor/spawner.ts";
import type { StartRun } from "../executor/start-run.ts";
import { killTree } from "./stop.ts";

export interface LaunchesDeps extends PlanDeps {
  store: RunStore;
  /** The environment of the agent, of which a run sees a few variables. */
  env: Readonly<Record<string, string | undefined>>;
  self: ProcessIdentity;
  /** At most so many runs at once. */
  maxRunning: number;
  /** A log shows at most so many bytes of its run. */
  maxLogBytes?: number | undefined;
  /** Runs are started as this user; undefined for the agent's own. */
  runUser?: RunUser | undefined;
  startRun: StartRun;
  now(): number;
}

/** What launches have to know of the runs that there are. */
interface KnownRuns {
  /** The run as it is now. */
  settle(run: StoredRun): Promise<StoredRun>;
  /** Looks at all that may be alive. */
  settleAlive(): Promise<void>;
}

/** A launch that is asked for, and what it comes to on this host. */
interface Launch {
  order: LaunchOrder;
  plan: LaunchPlan;
}

/** The run of a launch that is begun or was known already; or why there is none. */
type Recorded = ApiProblem | { run: StoredRun; started?: Promise<StoredRun> };

/** For how long a launch waits for another agent that is launching the same token. */
const FOREIGN_LAUNCH_LOOKS = 200;
const FOREIGN_LAUNCH_INTERVAL_MS = 50;

/** Launches runs, at most once for each token. */
export function createLaunches(deps: LaunchesDeps, { settle, settleAlive }: KnownRuns) {
  const { store, scripts, stateDir, now } = deps;
  const room = createRoom(store, deps.maxRunning);
  /** The launches this agent is in the middle of, by run id. */
  const launching = new Map<string, Promise<StoredRun>>();
  const recordSoon = atEndOfTurn(recordAll);

  async function launch(order: LaunchOrder): Promise<LaunchAnswer> {
    const known = store.findByToken(order.launch_token, notBefore());
    if (known) return replay(known, order);
    const plan = await planLaunch(order, deps);
    // Some may have ended since anybody looked: only runs that are alive fill the host.
    if (room.limitReached(plan) !== undefined) await settleAlive();
    const asked = await recordSoon({ order, plan });
    if (asked instanceof ApiProblem) throw asked;
    if (!asked.started) return replay(asked.run, order);
    return { run: publicRun(await asked.started), replayed: false };
  }

  function notBefore(): number {
    return now() - IDEMPOTENCY_TTL_SECONDS * 1000;
  }

  /** Records launches with one write to the disk and begins them, all but those that are refused or known already. */
  function recordAll(launches: readonly Launch[]): Recorded[] {
    const outcomes = store.exclusively(() => launches.map(recordOne));
    // Nothing is awaited from the record to `launching`: in between, it would look interrupted.
    return outcomes.map((outcome, i) =>
      outcome instanceof ApiProblem || !outcome.isNew
        ? outcome
        : { run: outcome.run, started: begin(outcome.run, launches[i]!.plan) },
    );
  }

  function recordOne({ order, plan }: Launch) {
    const runId = `run_${randomBytes(6).toString("hex")}`;
    const startedAt = now();
    const log_path = freeLogPath(plan, runId, new Date(startedAt));
    try {
      return store.insertOrFind(
        {
          run_id: runId,
          source: order.source,
          spec: JSON.stringify(order.spec),
          cmd: plan.cmd,
          log_path,
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
        () => room.refuseWhenFull(plan),
      );
    } catch (error) {
      // Of a launch that is refused nothing has been written: the others go on.
      if (error instanceof ApiProblem) return error;
      throw error;
    }
  }

  async function begin(run: StoredRun, plan: LaunchPlan): Promise<StoredRun> {
    const started = start(run, plan)
      .finally(() => launching.delete(run.run_id))
      // By now nothing says that it is under way: it can be looked at as after a crash.
      .catch((error: unknown) => takeUp(run, error));
    launching.set(run.run_id, started);
    return started;
  }

  /** The run of a launch of which nobody told what came: if its command was started, it goes on. */
  async function takeUp(run: StoredRun, error: unknown): Promise<StoredRun> {
    if (!(error instanceof SpawnerLost)) throw error;
    const current = await settle(run);
    if (current.launch_token !== null) return current;
    throw new ApiProblem("host_unavailable", "The host could not start it now; nothing was started", {
      retryAfterSeconds: 1,
      cause: error,
    });
  }

  /** A second run in the same second gets a suffix, also when it is another agent that starts the first. */
  function freeLogPath({ logDir: folder, logName }: LaunchPlan, runId: string, startedAt: Date): string {
    const path = join(folder, logFileName(logName, startedAt));
    const isTaken = isThere(path) || store.isLaunchingWithLog(path);
    return isTaken ? join(folder, logFileName(logName, startedAt, `_${runId.slice(4)}`)) : path;
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

  return {
    launch,
    preview: (order: PreviewOrder) => previewLaunch(order, { ...deps, room, settleAlive }),
    isUnderWay: (runId: string) => launching.has(runId),
    /** Resolves once the launch of this run is over, whatever came of it; undefined when none is under way here. */
    over: (runId: string) => launching.get(runId)?.catch(() => undefined),
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
