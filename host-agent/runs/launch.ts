import { type Executor, StartUnknown } from "../executor/executor.ts";
import type { ProcessIdentity } from "../executor/executor.ts";
import { chooseLogPaths, type LogPaths } from "../logs/log-name.ts";
import {
  IDEMPOTENCY_TTL_SECONDS,
  type LaunchAnswer,
  type LaunchOrder,
  type PreviewOrder,
} from "../protocol/launch.ts";
import { ApiProblem } from "../protocol/problem.ts";
import type { NewRun, Run } from "../store/run.ts";
import type { RunStore } from "../store/run-store.ts";
import { atEndOfTurn } from "../system/end-of-turn.ts";
import { sleep } from "../system/sleep.ts";
import { createAdmission } from "./admission.ts";
import { handleOf } from "./handle.ts";
import { type LaunchPlan, type PlanDeps, planLaunch } from "./launch-plan.ts";
import { previewLaunch } from "./preview.ts";
import { ALIVE } from "./reconcile.ts";
import { publicRun } from "./record.ts";

export interface LaunchDeps extends PlanDeps {
  store: RunStore;
  executor: Executor;
  /** This agent. */
  self: ProcessIdentity;
  /** At most this many runs on the host at once. */
  maxRunning: number;
  /** A log shows at most this many bytes of its run; undefined for no limit. */
  maxLogBytes?: number | undefined;
  now(): number;
}

/** What launches have to know of the runs that exist. */
interface KnownRuns {
  /** The run as it is now. */
  reconcile(run: Run): Promise<Run>;
  /** Looks at all that may be alive. */
  reconcileAlive(): Promise<void>;
}

/** An order, and what it comes to on this host. */
interface Launch {
  order: LaunchOrder;
  plan: LaunchPlan;
}

/** The run of a launch that is begun or was known already; or why there is none. */
type Recorded = ApiProblem | { run: Run; started?: Promise<Run> };

/** For how long a launch waits for another agent that is launching the same token. */
const FOREIGN_LAUNCH_LOOKS = 200;
const FOREIGN_LAUNCH_INTERVAL_MS = 50;

/** Launches runs, at most once for each token. */
export function createLaunches(deps: LaunchDeps, { reconcile, reconcileAlive }: KnownRuns) {
  const { store, executor, now } = deps;
  const admission = createAdmission(store, deps.maxRunning);
  /** The launches this agent is in the middle of, by run id. */
  const launching = new Map<string, Promise<Run>>();
  const recordSoon = atEndOfTurn(recordAll);

  async function launch(order: LaunchOrder): Promise<LaunchAnswer> {
    const known = store.findByToken(order.launch_token, notBefore());
    if (known) return replay(known, order);
    const plan = await planLaunch(order, deps);
    // Some may have ended since anybody looked: only runs that are alive count.
    if (admission.limitReached(plan) !== undefined) await reconcileAlive();
    const recorded = await recordSoon({ order, plan });
    if (recorded instanceof ApiProblem) throw recorded;
    if (!recorded.started) return replay(recorded.run, order);
    return { run: publicRun(await recorded.started), replayed: false };
  }

  function notBefore(): number {
    return now() - IDEMPOTENCY_TTL_SECONDS * 1000;
  }

  /** Records launches with one write to the disk and begins them, all but those that are refused or known already. */
  function recordAll(launches: readonly Launch[]): Recorded[] {
    const drafts = launches.map(draft);
    const outcomes = store.inOneWrite(() => launches.map(({ plan }, i) => recordOne(drafts[i]!, plan)));
    // Nothing is awaited from the record to `launching`: in between, it would look interrupted.
    return outcomes.map((outcome, i) =>
      outcome instanceof ApiProblem || !outcome.isNew
        ? outcome
        : { run: outcome.run, started: begin(outcome.run, launches[i]!.plan) },
    );
  }

  /** The run that a launch would be. The file system is looked at here, and not while the database is locked. */
  function draft({ order, plan }: Launch): { run: NewRun; logs: LogPaths } {
    const runId = makeRunId();
    const startedAt = now();
    const logs = chooseLogPaths(plan.command.logDir, plan.logName, { startedAt, runId });
    const run: NewRun = {
      runId,
      source: order.source,
      spec: order.spec,
      cmd: plan.cmd,
      logPath: logs.path,
      keyName: order.key_name,
      specSha256: plan.script?.sha256,
      label: order.label,
      callbackUrl: order.callback_url,
      startedAt,
      fingerprint: order.fingerprint,
      timeoutSeconds: plan.timeoutSeconds,
      logLimit: deps.maxLogBytes,
      launchToken: order.launch_token,
      launcher: deps.self,
    };
    return { run, logs };
  }

  function recordOne({ run, logs }: ReturnType<typeof draft>, plan: LaunchPlan) {
    try {
      // A second run in the same second gets a suffix, also when another agent starts the first.
      const logPath = store.isLogTaken(logs.path) ? logs.spare : logs.path;
      return store.insertOrFind({ ...run, logPath }, notBefore(), () => admission.admit(plan));
    } catch (error) {
      // Of a launch that is refused nothing has been written: the others go on.
      if (error instanceof ApiProblem) return error;
      throw error;
    }
  }

  async function begin(run: Run, plan: LaunchPlan): Promise<Run> {
    const started = start(run, plan)
      .finally(() => launching.delete(run.runId))
      // By now nothing says that it is under way: it can be looked at as after a crash.
      .catch((error: unknown) => recover(run, error));
    launching.set(run.runId, started);
    return started;
  }

  /** The run of a launch whose outcome nobody knows: if its command was started, it goes on. */
  async function recover(run: Run, error: unknown): Promise<Run> {
    if (!(error instanceof StartUnknown)) throw error;
    const current = await reconcile(run);
    if (current.launchToken !== undefined) return current;
    throw new ApiProblem("host_unavailable", "The host could not start it now; nothing was started", {
      retryAfterSeconds: 1,
      cause: error,
    });
  }

  async function start(run: Run, { command, script }: LaunchPlan): Promise<Run> {
    try {
      const { process, logFile } = await executor.start({
        runId: run.runId,
        command,
        logPath: run.logPath,
      });
      const started = store.markRunning(run.runId, { process, logFile, reason: ALIVE });
      if (script && !deps.scripts.isUnchanged(script)) return await stopChanged(started);
      return started;
    } catch (error) {
      if (error instanceof ApiProblem) {
        store.failLaunch(run.runId, { reason: `${error.message}.`, endedAt: now() });
      }
      throw error;
    }
  }

  /** What runs by now is not what was approved: it may not go on. */
  async function stopChanged(run: Run): Promise<never> {
    await executor.kill(handleOf(run));
    throw new ApiProblem(
      "launch_failed",
      "The script was changed while it was being started; it was stopped",
    );
  }

  async function replay(run: Run, order: LaunchOrder): Promise<LaunchAnswer> {
    if (run.fingerprint !== order.fingerprint) {
      throw new ApiProblem(
        "idempotency_key_reused",
        `The Idempotency-Key was used within the last hour for another request, which started ${run.runId}; use a new key`,
      );
    }
    const current = await launched(run);
    // A launch that failed has freed its token: this is a new one.
    if (current.launchToken !== order.launch_token) return launch(order);
    return { run: publicRun(current), replayed: true };
  }

  /** The run once its launch is over, whichever agent launches it. Rejects as the launch does. */
  async function launched(run: Run): Promise<Run> {
    await launching.get(run.runId);
    let current = await reconcile(run);
    for (let looks = 0; current.status === "launching" && looks < FOREIGN_LAUNCH_LOOKS; looks++) {
      await sleep(FOREIGN_LAUNCH_INTERVAL_MS);
      current = await reconcile(run);
    }
    return current;
  }

  return {
    launch,
    preview: (order: PreviewOrder) => previewLaunch(order, { ...deps, admission, reconcileAlive }),
    isUnderWay: (runId: string) => launching.has(runId),
    /** Resolves once the launch of this run is over, whatever came of it; undefined when none is under way here. */
    over: (runId: string) => launching.get(runId)?.catch(() => undefined),
  };
}

const RUN_ID_BYTES = 6;

function makeRunId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(RUN_ID_BYTES));
  return `run_${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
