import type { ApprovedScript, Scripts } from "../catalogue/scripts.ts";
import { type Executor, StartUnknown } from "../executor/executor.ts";
import { ApiProblem } from "../protocol/problem.ts";
import type { Run } from "../store/run.ts";
import type { RunStore } from "../store/run-store.ts";
import { ALIVE } from "./end-of-run.ts";
import { handleOf } from "./handle.ts";
import type { LaunchPlan } from "./launch-plan.ts";

export interface StartDeps {
  store: RunStore;
  executor: Executor;
  scripts: Scripts;
  now(): number;
}

/** Starts recorded runs, and knows which starts are under way. */
export function createStarts(deps: StartDeps, reconcile: (run: Run) => Promise<Run>) {
  /** By run id. */
  const underWay = new Map<string, Promise<Run>>();

  async function begin(run: Run, plan: LaunchPlan): Promise<Run> {
    const started = startRecorded(run, plan, deps)
      .finally(() => underWay.delete(run.runId))
      // By now nothing says that it is under way: it can be looked at as after a crash.
      .catch((error: unknown) => recover(run, error));
    underWay.set(run.runId, started);
    return started;
  }

  /** The run of a launch whose outcome nobody knows: if its command was started, it goes on. */
  async function recover(run: Run, error: unknown): Promise<Run> {
    if (error instanceof ApiProblem) throw error;
    if (!(error instanceof StartUnknown)) throw mayHaveStarted(run, error);
    const current = await reconcile(run).catch((cause: unknown) => {
      throw mayHaveStarted(run, cause);
    });
    if (current.launchToken !== undefined) return current;
    throw new ApiProblem("host_unavailable", "The host could not start it now; nothing was started", {
      retryAfterSeconds: 1,
      cause: error,
    });
  }

  return {
    begin,
    /** The start of this run; undefined when none is under way here. Rejects as the launch does. */
    of: (runId: string) => underWay.get(runId),
    isUnderWay: (runId: string) => underWay.has(runId),
    /** Resolves once the start of this run is over, whatever came of it; undefined when none is under way here. */
    over: (runId: string) => underWay.get(runId)?.catch(() => undefined),
  };
}

async function startRecorded(run: Run, { command, script }: LaunchPlan, deps: StartDeps): Promise<Run> {
  const { store, executor, now } = deps;
  try {
    const { runId, logPath, logLimit, cgroup } = run;
    const { process, logFile } = await executor.start({ runId, command, logPath, logLimit, cgroup });
    const started = recordStarted(() => store.markRunning(run.runId, { process, logFile, reason: ALIVE }));
    if (script) await stopIfChanged(started, script, deps);
    return started;
  } catch (error) {
    if (error instanceof ApiProblem) {
      store.failLaunch(run.runId, { reason: `${error.message}.`, endedAt: now() });
    }
    throw error;
  }
}

/** The command runs by now: a failure to write that down says nothing about it. */
function recordStarted(write: () => Run): Run {
  try {
    return write();
  } catch (cause) {
    throw new StartUnknown("the start could not be recorded", { cause });
  }
}

/** The only answer that is true when neither the start nor its failure is known. The token stays taken. */
function mayHaveStarted({ runId }: Run, cause: unknown): ApiProblem {
  return new ApiProblem(
    "host_unavailable",
    `${runId} may have been started; the host cannot tell now. Look at this run before you launch it again. A retry with the same Idempotency-Key is safe`,
    { retryAfterSeconds: 2, cause },
  );
}

/** Throws when what runs by now is not what was approved, or nobody can know: it may not go on. */
async function stopIfChanged(
  run: Run,
  script: ApprovedScript,
  { executor, scripts }: Pick<StartDeps, "executor" | "scripts">,
): Promise<void> {
  const [isUnchanged, cause] = await scripts.isUnchanged(script).then(
    (found) => [found] as const,
    (error: unknown) => [false, error] as const,
  );
  if (isUnchanged) return;
  await executor.kill(handleOf(run));
  throw cause === undefined
    ? new ApiProblem("launch_failed", "The script was changed while it was being started; it was stopped")
    : new ApiProblem(
        "host_unavailable",
        "The host cannot check now whether the script was changed while it was being started; it was stopped",
        { retryAfterSeconds: 10, cause },
      );
}
