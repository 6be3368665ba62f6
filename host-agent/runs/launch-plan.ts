import { paramWords } from "../catalogue/params.ts";
import type { Recipes } from "../catalogue/recipes.ts";
import type { RecipeFault } from "../catalogue/recipes-file.ts";
import { forbidden } from "../catalogue/script-roots.ts";
import type { ApprovedScript, Scripts } from "../catalogue/scripts.ts";
import { ArgsError, splitArgs } from "../catalogue/split-args.ts";
import type { Command } from "../executor/executor.ts";
import { joinArgv } from "../protocol/argv.ts";
import type { PreviewOrder } from "../protocol/launch.ts";
import { ApiProblem, invalidField } from "../protocol/problem.ts";
import { type Reach, reachesRecipe } from "../protocol/reach.ts";
import type { PipelineSpec, ScriptSpec } from "../protocol/spec.ts";

/** What an order comes to on this host: everything a run needs, decided before anything is recorded. */
export interface LaunchPlan {
  command: Command;
  /** The command line as the client will read it. */
  cmd: string;
  /** The beginning of the log's file name. */
  logName: string;
  script: ApprovedScript | undefined;
  recipeId: string | undefined;
  timeoutSeconds: number | undefined;
  maxRunning: number | undefined;
  /** The run is kept for this many days after its end, 0 forever; undefined for as long as the agent's setting says. */
  keepDays: number | undefined;
  /** Whether processes that are alive after the end of the run are killed, where it has a cgroup. */
  killLeftBehind: boolean;
}

/** What an order is judged by. */
export interface PlanDeps {
  recipes: Recipes;
  scripts: Scripts;
  /** The folder of logs for which no recipe names another. */
  logDir: string;
  /** For runs whose recipe does not say it. */
  killLeftBehind?: boolean;
  /** Throws `invalid_request` for a URL that may not be called back. */
  checkCallbackUrl(url: string): void;
}

/**
 * Turns an order into a plan, or throws a problem that names what is wrong with it. What is out of reach is refused as what does not
 * exist.
 */
export async function planLaunch(order: PreviewOrder, deps: PlanDeps, reach?: Reach): Promise<LaunchPlan> {
  if (order.callback_url !== undefined) deps.checkCallbackUrl(order.callback_url);
  return order.source === "pipeline"
    ? planPipeline(order.spec, deps, reach)
    : planScript(order.spec, deps, reach);
}

async function planPipeline(
  spec: PipelineSpec,
  { recipes, logDir, killLeftBehind = false }: PlanDeps,
  reach: Reach | undefined,
): Promise<LaunchPlan> {
  const catalogue = await recipes.current();
  if (!reachesRecipe(reach, spec.recipe_id)) throw noSuchRecipe(spec.recipe_id);
  const recipe = catalogue.recipes.get(spec.recipe_id);
  if (!recipe) throw noSuchRecipe(spec.recipe_id, catalogue.faults);
  const argv = [...recipe.command, ...paramWords(recipe.params, spec.params), ...split(spec.args)];
  return {
    command: {
      argv,
      cwd: recipe.cwd,
      env: recipe.env,
      terminal: spec.terminal ?? recipe.terminal,
      script: undefined,
      logDir: recipe.log_dir ?? logDir,
      limits: recipe.limits,
    },
    cmd: joinArgv(argv),
    logName: recipe.recipe_id,
    script: undefined,
    recipeId: recipe.recipe_id,
    timeoutSeconds: recipe.timeout_seconds,
    maxRunning: recipe.max_running,
    keepDays: recipe.keep_days,
    killLeftBehind: recipe.kill_left_behind ?? killLeftBehind,
  };
}

/** Throws what a launch of something out of reach is refused with. */
export function refuseUnreached(order: PreviewOrder): never {
  throw order.source === "pipeline" ? noSuchRecipe(order.spec.recipe_id) : forbidden();
}

function noSuchRecipe(id: string, faults: readonly RecipeFault[] = []): ApiProblem {
  const isFaulty = faults.some(({ recipeId }) => recipeId === id);
  return new ApiProblem(
    "recipe_not_found",
    isFaulty
      ? `recipe_id: recipe ${id} is not valid in the recipes file of the host; its operator has to correct it`
      : `recipe_id: there is no recipe ${id}`,
  );
}

async function planScript(
  spec: ScriptSpec,
  { scripts, logDir, killLeftBehind = false }: PlanDeps,
  reach: Reach | undefined,
): Promise<LaunchPlan> {
  const words = split(spec.args);
  const script = await scripts.approve(spec.path, reach);
  const argv = [...script.command, ...words];
  return {
    command: { argv, cwd: script.folder, env: {}, terminal: spec.terminal ?? false, script, logDir },
    cmd: joinArgv(argv),
    logName: script.name,
    script,
    recipeId: undefined,
    timeoutSeconds: undefined,
    maxRunning: undefined,
    keepDays: undefined,
    killLeftBehind,
  };
}

function split(args: string): string[] {
  try {
    return splitArgs(args);
  } catch (error) {
    if (error instanceof ArgsError) throw invalidField("args", error.message);
    throw error;
  }
}
