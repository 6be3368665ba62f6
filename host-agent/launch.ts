import { spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants, fchownSync, fstatSync, statSync } from "node:fs";
import { basename, delimiter, dirname, isAbsolute, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { ArgsError, splitArgs } from "./argv.ts";
import { isExhausted } from "./exhaustion.ts";
import { createLog } from "./log-file.ts";
import { checkLogFolder } from "./log-folder.ts";
import { fileIdentity } from "./log-limit.ts";
import { paramWords } from "./params.ts";
import { currentBootId, type ProcessIdentity, readStat } from "./process-identity.ts";
import { joinArgv } from "./protocol/argv.ts";
import { ApiProblem, invalidField } from "./protocol/problem.ts";
import type { PipelineSpec, PreviewOrder, ScriptSpec } from "./protocol/schemas.ts";
import type { Recipes } from "./recipes.ts";
import { FOLDER_FD_PATH, giveFolder, obstacleFor, openFolder, type RunUser } from "./run-as.ts";
import { createRunFolder, type RunFolder } from "./run-files.ts";
import type { ApprovedScript, Scripts } from "./scripts.ts";
import { terminalArgv } from "./terminal-mode.ts";

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

/** A run that has been started: its wrapper's process, and which file its log is. */
export interface StartedRun {
  process: ProcessIdentity;
  logFile: string;
}

/** Starts the command of a plan, as `startRun` does. */
export type StartRun = typeof startRun;

const RUN_SH = fileURLToPath(new URL("run.sh", import.meta.url));

/** Turns an order into a plan, or throws a problem that names what is wrong with it. */
export async function planLaunch(
  order: PreviewOrder,
  { recipes, scripts, logDir }: { recipes: Recipes; scripts: Scripts; logDir: string },
): Promise<LaunchPlan> {
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

/** `<name>__YYYYMMDD_HHMMSS.log` in local time, of characters that any file system and shell takes. */
export function logFileName(name: string, startedAt: Date, suffix = ""): string {
  return logFileNameAt(name, `${stampOf(startedAt)}${suffix}`);
}

/** The same with the letters of the date and time in their places. */
export function logFilePattern(name: string): string {
  return logFileNameAt(name, "YYYYMMDD_HHMMSS");
}

function logFileNameAt(name: string, stamp: string): string {
  return `${name.replaceAll(/[^\w.-]/g, "_").slice(0, 100)}__${stamp}.log`;
}

function stampOf(startedAt: Date): string {
  const date = `${startedAt.getFullYear()}${pad(startedAt.getMonth() + 1)}${pad(startedAt.getDate())}`;
  const time = `${pad(startedAt.getHours())}${pad(startedAt.getMinutes())}${pad(startedAt.getSeconds())}`;
  return `${date}_${time}`;
}

function pad(value: number): string {
  return String(value).padStart(2, "0");
}

/**
 * Starts the plan's command under the wrapper. The process belongs to nobody: it
 * leads its own session and writes its own log. Throws `launch_failed` when the
 * command cannot be started and `host_unavailable` when the host has no room for it.
 */
export async function startRun(
  plan: LaunchPlan,
  { folder, logPath, env, runUser }: StartOptions,
): Promise<StartedRun> {
  try {
    const resolved = resolveCommand(plan, env);
    if (runUser) await checkUser(runUser, plan, resolved[0]!);
    const argv = plan.terminal ? await terminalArgv(resolved) : resolved;
    createRunFolder(folder);
    using log = createLog(logPath);
    const logFile = fileIdentity(fstatSync(log.fd));
    const to = { cwd: plan.cwd, env, logFd: log.fd };
    if (!runUser) return { process: await spawnWrapper([folder.path, ...argv], to), logFile };
    // So that the run may open it again, as by /dev/stderr.
    fchownSync(log.fd, runUser.uid, runUser.gid);
    await giveFolder(folder, runUser);
    using opened = openFolder(folder);
    const as = { runUser, folderFd: opened.fd };
    return { process: await spawnWrapper([FOLDER_FD_PATH, ...argv], { ...to, as }), logFile };
  } catch (error) {
    throw launchProblem(error);
  }
}

interface StartOptions {
  folder: RunFolder;
  logPath: string;
  env: Record<string, string>;
  /** Undefined for the agent's own user. */
  runUser: RunUser | undefined;
}

async function checkUser(runUser: RunUser, { cwd, script }: LaunchPlan, program: string): Promise<void> {
  const obstacle = await obstacleFor(runUser, { cwd, program, script: script?.path });
  if (obstacle !== undefined) throw new LaunchError(obstacle);
}

/** The argv with an absolute path to the program, so that a missing one is known before anything starts. */
function resolveCommand(plan: LaunchPlan, env: Record<string, string>): string[] {
  const [command, ...args] = plan.argv as [string, ...string[]];
  const program = plan.script ? command : findProgram(command, plan.cwd, env);
  if (plan.script) checkInterpreter(plan.script);
  checkFolder(plan.cwd);
  return [program, ...args];
}

/**
 * What `startRun` would run: the argv with the program's path. Starts nothing,
 * and throws the problem that `startRun` would, as far as it can be known before.
 */
export async function previewArgv(plan: LaunchPlan, env: Record<string, string>): Promise<string[]> {
  try {
    const argv = resolveCommand(plan, env);
    if (plan.terminal) await terminalArgv(argv);
    checkLogFolder(plan.logDir);
    checkLogDir(plan.logDir);
    return argv;
  } catch (error) {
    throw launchProblem(error);
  }
}

/** A log's folder may be missing: it is made at the launch. */
function checkLogDir(folder: string): void {
  try {
    accessSync(folder, constants.W_OK | constants.X_OK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT" || folder === dirname(folder)) throw error;
    checkLogDir(dirname(folder));
  }
}

function checkFolder(cwd: string): void {
  if (!isFolder(cwd)) throw new LaunchError("its working folder does not exist");
}

function checkInterpreter({ path, executable, shebang }: ApprovedScript): void {
  if (!executable || shebang === undefined) return;
  const interpreter = shebang.split(/[ \t]/, 1)[0]!;
  if (!mayRun(interpreter)) {
    throw new LaunchError(`its interpreter ${JSON.stringify(interpreter)} cannot be run`);
  }
  if (!mayRun(path)) throw new LaunchError("it may not be run by the host-agent's user");
}

/** The absolute path of the program that `command` names. Throws LaunchError when there is none that may be run. */
export function findProgram(command: string, cwd: string, env: Record<string, string>): string {
  const candidates = command.includes("/")
    ? [resolve(cwd, command)]
    : (env["PATH"] ?? "")
        .split(delimiter)
        .filter(isAbsolute)
        .map((folder) => join(folder, command));
  const program = candidates.find((candidate) => mayRun(candidate) && statSync(candidate).isFile());
  if (program === undefined) {
    throw new LaunchError(`there is no program ${JSON.stringify(command)} that may be run`);
  }
  return program;
}

function mayRun(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

async function spawnWrapper(
  args: string[],
  {
    cwd,
    env,
    logFd,
    as,
  }: {
    cwd: string;
    env: Record<string, string>;
    logFd: number;
    as?: { runUser: RunUser; folderFd: number };
  },
): Promise<ProcessIdentity> {
  const child = spawn("/bin/sh", [RUN_SH, ...args], {
    cwd,
    env,
    detached: true,
    stdio: ["ignore", logFd, logFd, ...(as ? [as.folderFd] : [])],
    ...(as && { uid: as.runUser.uid, gid: as.runUser.gid }),
  });
  await once(child, "spawn");
  child.unref();
  // A child that has already ended stays a zombie until the event loop reaps it: its stat can still be read.
  const pid = child.pid!;
  return { pid, startTime: startTimeOf(pid) ?? "unknown", bootId: currentBootId() };
}

/** Never throws: the run has started by now, whatever can be seen of it. */
function startTimeOf(pid: number): string | undefined {
  try {
    return readStat(pid)?.startTime;
  } catch {
    return undefined;
  }
}

/** Why a command cannot be started, in words that fit behind "cannot start it:". */
class LaunchError extends Error {
  override readonly name = "LaunchError";
}

function launchProblem(error: unknown): ApiProblem {
  if (error instanceof ApiProblem) return error;
  if (error instanceof LaunchError)
    return new ApiProblem("launch_failed", `Cannot start it: ${error.message}`);
  const code = (error as NodeJS.ErrnoException).code ?? "unknown error";
  if (isExhausted(error)) {
    return new ApiProblem(
      "host_unavailable",
      `The host cannot start anything now (${code}); nothing was started`,
      {
        retryAfterSeconds: 10,
        cause: error,
      },
    );
  }
  return new ApiProblem("launch_failed", `Cannot start it (${code}); nothing was started`, { cause: error });
}
