import { basename, dirname, join } from "node:path";

import { ArgsError, splitArgs } from "../catalogue/split-args.ts";
import type { CallbackRules } from "../callbacks/callback-rules.ts";
import { paramWords } from "../catalogue/params.ts";
import { joinArgv } from "../protocol/argv.ts";
import { invalidField, ApiProblem } from "../protocol/problem.ts";
import type { PreviewOrder } from "../protocol/launch.ts";
import type { PipelineSpec, ScriptSpec } from "../protocol/spec.ts";
import type { Recipes } from "../catalogue/recipes.ts";
import type { ApprovedScript, Scripts } from "../catalogue/scripts.ts";

/** What an order comes to on this host: everything a run needs, decided before anything is recorded. */
export interface LaunchPlan {
  /** The words as the client will read them. */
  argv: string[];
  cmd: string;
  cwd: string;
  env: Record<string, string>;
  logDir: string;
  /** The beginning of the log's file name. */
  logName: string;
  terminal: boolean;
  script: ApprovedScript | undefined;
  recipeId: string | undefined;
  timeoutSeconds: number | undefined;
  maxRunning: number | undefined;
}

/** What an order is judged by. */
export interface PlanDeps {
  recipes: Recipes;
  scripts: Scripts;
  stateDir: string;
  /** Which callback URLs are taken. */
  callbackRules: CallbackRules;
}

/** Turns an order into a plan, or throws a problem that names what is wrong with it. */
export async function planLaunch(
  order: PreviewOrder,
  { recipes, scripts, stateDir, callbackRules }: PlanDeps,
): Promise<LaunchPlan> {
  if (order.callback_url !== undefined) callbackRules.check(order.callback_url);
  const logDir = join(stateDir, "logs");
  return order.source === "pipeline"
    ? planPipeline(order.spec, recipes, logDir)
    : planScript(order.spec, scripts, logDir);
}

async function planPipeline(spec: PipelineSpec, recipes: Recipes, logDir: string): Promise<LaunchPlan> {
  const recipe = (await recipes.current()).recipes.get(spec.recipe_id);
  if (!recipe) {
    throw new ApiProblem(
      "recipe_not_found",
      `recipe_id: there is no recipe ${spec.recipe_id}; GET /api/v1/pipelines/recipes lists them`,
    );
  }
  const argv = [...recipe.command, ...paramWords(recipe.params, spec.params), ...split(spec.args)];
  return {
    argv,
    cmd: joinArgv(argv),
    cwd: recipe.cwd,
    env: recipe.env,
    logDir: recipe.log_dir ?? logDir,
    logName: recipe.recipe_id,
    terminal: spec.terminal ?? recipe.terminal,
    script: undefined,
    recipeId: recipe.recipe_id,
    timeoutSeconds: recipe.timeout_seconds,
    maxRunning: recipe.max_running,
  };
}

async function planScript(spec: ScriptSpec, scripts: Scripts, logDir: string): Promise<LaunchPlan> {
  const words = split(spec.args);
  const script = await scripts.approve(spec.path);
  const interpreter = script.executable && script.shebang !== undefined ? [] : ["/bin/bash"];
  const argv = [...interpreter, script.path, ...words];
  return {
    argv,
    cmd: joinArgv(argv),
    cwd: dirname(script.path),
    env: {},
    logDir,
    logName: basename(script.path, ".sh"),
    terminal: spec.terminal ?? false,
    script,
    recipeId: undefined,
    timeoutSeconds: undefined,
    maxRunning: undefined,
  };
}

function split(args: string): string[] {
  try {
    return splitArgs(args);
  } catch (error) {
    if (error instanceof ArgsError) throw invalidField("body.args", error.message);
    throw error;
  }
}
