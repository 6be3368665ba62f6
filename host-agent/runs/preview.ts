import type { Executor } from "../executor/executor.ts";
import { logFilePattern } from "../logs/log-name.ts";
import type { LaunchPreview, PreviewOrder } from "../protocol/launch.ts";
import type { Reach } from "../protocol/reach.ts";
import type { RunStore } from "../store/run-store.ts";
import { type Admission, tooManyRuns } from "./admission.ts";
import { type PlanDeps, planLaunch } from "./launch-plan.ts";

interface PreviewDeps extends PlanDeps {
  store: RunStore;
  executor: Executor;
  maxRunning: number;
  admission: Admission;
  /** Looks at all that may be alive. */
  reconcileAlive(): Promise<void>;
}

/** What a launch would come to now. Starts nothing and records nothing. */
export async function previewLaunch(
  order: PreviewOrder,
  deps: PreviewDeps,
  reach: Reach | undefined,
): Promise<LaunchPreview> {
  const { store, executor, admission } = deps;
  const plan = await planLaunch(order, deps, reach);
  await deps.reconcileAlive();
  const { argv, environment, ...command } = await executor.preview(plan.command);
  // What would be refused first is reported first.
  const limit = admission.limitReached(plan);
  const problem = limit === undefined ? command.problem : tooManyRuns(limit);
  return {
    dry_run: true,
    source: order.source,
    would_start: problem === undefined,
    reason: problem === undefined ? null : `${problem.message}.`,
    code: problem?.code ?? null,
    argv,
    cmd: plan.cmd,
    cwd: plan.command.cwd,
    log_path_pattern: logFilePattern(plan.command.logDir, plan.logName),
    environment,
    terminal: plan.command.terminal,
    spec_sha256: plan.script?.sha256 ?? null,
    limits: {
      timeout_seconds: plan.timeoutSeconds ?? null,
      max_running: plan.maxRunning ?? null,
      running: plan.recipeId === undefined ? null : store.countAliveOfRecipe(plan.recipeId),
      host_max_running: deps.maxRunning,
      host_running: store.countAlive(),
    },
  };
}
