import type { Executor, ProcessIdentity } from "../executor/executor.ts";
import { chooseLogPaths, type LogPaths } from "../logs/log-name.ts";
import type { LaunchOrder } from "../protocol/launch.ts";
import { ApiProblem } from "../protocol/problem.ts";
import type { NewRun, Run } from "../store/run.ts";
import type { RunStore } from "../store/run-store.ts";
import type { Clock } from "../system/clock.ts";
import { atEndOfTurn } from "../system/end-of-turn.ts";
import type { Admission } from "./admission.ts";
import type { LaunchPlan } from "./launch-plan.ts";

/** An order, and what it comes to on this host. */
export interface Launch {
  order: LaunchOrder;
  plan: LaunchPlan;
}

export interface RecordDeps {
  store: RunStore;
  executor: Executor;
  /** This agent. */
  self: ProcessIdentity;
  /** A log shows at most this many bytes of its run; undefined for no limit. */
  maxLogBytes?: number | undefined;
  clock: Clock;
}

/** The run of a launch that is begun or was known already; or why there is none. */
export type Recorded = ApiProblem | { run: Run; started?: Promise<Run> };

const RUN_ID_BYTES = 6;

/**
 * Records launches: all of one turn of the event loop with one write to the disk. Each is begun by `begin`, except those
 * that are refused or known already. A token whose holder is not `inForce` any more starts another run.
 */
export function createLaunchRecorder(
  deps: RecordDeps,
  {
    admission,
    inForce,
    begin,
  }: {
    admission: Admission;
    inForce(holder: Run): boolean;
    begin(run: Run, plan: LaunchPlan): Promise<Run>;
  },
): (launch: Launch) => Promise<Recorded> {
  const { store } = deps;

  function recordOne({ run, logs }: Draft, plan: LaunchPlan) {
    try {
      // A second run in the same second gets a suffix, also when another agent starts the first.
      const logPath = store.isLogTaken(logs.path) ? logs.spare : logs.path;
      return store.insertOrFind({ ...run, logPath }, inForce, () => admission.admit(plan));
    } catch (error) {
      // Of a launch that is refused nothing has been written: the others go on.
      if (error instanceof ApiProblem) return error;
      throw error;
    }
  }

  return atEndOfTurn((launches: readonly Launch[]): Recorded[] => {
    const drafts = launches.map((launch) => draft(launch, deps));
    const outcomes = store.inOneWrite(() => launches.map(({ plan }, i) => recordOne(drafts[i]!, plan)));
    // Nothing is awaited from the record to `begin`: in between, it would look interrupted.
    return outcomes.map((outcome, i) =>
      outcome instanceof ApiProblem || !outcome.isNew
        ? outcome
        : { run: outcome.run, started: begin(outcome.run, launches[i]!.plan) },
    );
  });
}

interface Draft {
  run: NewRun;
  logs: LogPaths;
}

/** The run that a launch would be. The file system is looked at here, and not while the database is locked. */
function draft({ order, plan }: Launch, { clock, self, maxLogBytes, executor }: RecordDeps): Draft {
  const runId = makeRunId();
  const { at: startedAt, uptime: startedUptime } = clock();
  const logs = chooseLogPaths(plan.command.logDir, plan.logName, { startedAt, runId });
  const run: NewRun = {
    runId,
    source: order.source,
    spec: order.spec,
    cmd: plan.cmd,
    logPath: logs.path,
    keyName: order.key_name,
    specSha256: plan.script?.sha256,
    scriptPath: plan.script?.path,
    label: order.label,
    callbackUrl: order.callback_url,
    startedAt,
    startedUptime,
    fingerprint: order.fingerprint,
    timeoutSeconds: plan.timeoutSeconds,
    logLimit: maxLogBytes,
    keepDays: plan.keepDays,
    cgroup: executor.leafOf(runId),
    killLeftBehind: plan.killLeftBehind,
    launchToken: order.launch_token,
    launcher: self,
  };
  return { run, logs };
}

function makeRunId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(RUN_ID_BYTES));
  return `run_${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
