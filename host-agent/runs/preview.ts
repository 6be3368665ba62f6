import { join } from "node:path";

import { previewArgv } from "../executor/command.ts";
import { buildEnvironment } from "../executor/environment.ts";
import { type PlanDeps, planLaunch } from "./launch-plan.ts";
import { logFilePattern } from "../logs/log-name.ts";
import type { ApiProblem } from "../protocol/problem.ts";
import type { LaunchPreview, PreviewOrder } from "../protocol/launch.ts";
import { type Room, tooManyRuns } from "./admission.ts";
import type { RunUser } from "../executor/run-as.ts";
import type { RunStore } from "../store/run-store.ts";

interface PreviewDeps extends PlanDeps {
  store: RunStore;
  env: Readonly<Record<string, string | undefined>>;
  maxRunning: number;
  runUser?: RunUser | undefined;
  room: Room;
  /** Looks at all that may be alive. */
  settleAlive(): Promise<void>;
}

/** What a launch would come to now. Starts nothing and records nothing. */
export async function previewLaunch(order: PreviewOrder, deps: PreviewDeps): Promise<LaunchPreview> {
  const { store, room } = deps;
  const plan = await planLaunch(order, deps);
  await deps.settleAlive();
  const env = buildEnvironment(deps.env, "", plan.env, deps.runUser);
  const problems: ApiProblem[] = [];
  const argv = await previewArgv(plan, { env, runUser: deps.runUser }).catch((error: ApiProblem) => {
    problems.push(error);
    return plan.argv;
  });
  // What would be refused first is told first.
  const limit = room.limitReached(plan);
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
      running: plan.recipeId === undefined ? null : room.countRecipe(plan.recipeId),
      host_max_running: deps.maxRunning,
      host_running: store.countAlive(),
    },
  };
}
