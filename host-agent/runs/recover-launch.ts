import type { Executor, ProcessIdentity } from "../executor/executor.ts";
import { logIdentity } from "../logs/log-limit.ts";
import type { Run } from "../store/run.ts";
import type { RunStore } from "../store/run-store.ts";
import { ALIVE } from "./end-of-run.ts";

export interface RecoverDeps {
  store: RunStore;
  executor: Executor;
  now(): number;
  /** This agent. */
  self: ProcessIdentity;
  /** Whether another agent is alive. */
  isAgentAlive(agent: ProcessIdentity): boolean;
  /** True while this agent is in the middle of launching the run. */
  isLaunching(runId: string): boolean;
}

const INTERRUPTED = "Launch interrupted: the host-agent stopped before the command was started.";

/**
 * Recovers a run that is `launching`: as it is while an agent launches it; failed when its launch was interrupted before
 * the command was started; else running, with the process that was found.
 */
export async function recoverLaunch(run: Run, deps: RecoverDeps): Promise<Run> {
  const { store, executor, self } = deps;
  const { runId, launcher } = run;
  if (deps.isLaunching(runId)) return run;
  const isOurs = launcher.pid === self.pid && launcher.startTime === self.startTime;
  if (!isOurs && deps.isAgentAlive(launcher)) return run;
  const recovered = await executor.recover(runId, launcher.bootId, run.cgroup);
  if (recovered === "unreadable") return run;
  if (recovered === "never_started") {
    // Its token may start another run: the command has not been started and never will be.
    return store.failLaunch(runId, { reason: INTERRUPTED, endedAt: deps.now() });
  }
  const adopted = store.change(run, {
    status: "running",
    statusReason: ALIVE,
    process: recovered.process,
    logFile: logIdentity(run.logPath),
  });
  return adopted ?? store.get(runId) ?? run;
}
