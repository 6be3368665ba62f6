import { accessSync, constants, statSync } from "node:fs";
import { delimiter, dirname, isAbsolute, join, resolve } from "node:path";

import { isExhausted } from "../system/exhaustion.ts";
import { checkLogFolder } from "../logs/log-folder.ts";
import { ApiProblem } from "../protocol/problem.ts";
import type { Command, CommandScript } from "./executor.ts";
import { obstacleFor, type RunUser } from "./run-as.ts";
import { terminalArgv } from "./terminal-mode.ts";

/** In which environment a command runs, and as whom; undefined for the agent's own user. */
export interface HowToRun {
  env: Record<string, string>;
  runUser: RunUser | undefined;
}

/**
 * The words that are to be executed: an absolute path to the program, so that a
 * missing one is known before anything starts, and in terminal mode the program
 * that gives it a terminal. Throws an error for `launchProblem`.
 */
export async function runnableArgv(command: Command, { env, runUser }: HowToRun): Promise<string[]> {
  const argv = resolveCommand(command, env);
  if (runUser) await checkUser(runUser, command, argv[0]!);
  return command.terminal ? await terminalArgv(argv) : argv;
}

async function checkUser(runUser: RunUser, { cwd, script }: Command, program: string): Promise<void> {
  const obstacle = await obstacleFor(runUser, { cwd, program, script: script?.path });
  if (obstacle !== undefined) throw new LaunchError(obstacle);
}

function resolveCommand(command: Command, env: Record<string, string>): string[] {
  const [name, ...args] = command.argv as [string, ...string[]];
  const program = command.script ? name : findProgram(name, command.cwd, env);
  if (command.script) checkInterpreter(command.script);
  checkFolder(command.cwd);
  return [program, ...args];
}

/**
 * What `startRun` would run: the argv with the program's path. Starts nothing,
 * and throws the problem that `startRun` would, as far as it can be known before.
 */
export async function previewArgv(command: Command, how: HowToRun): Promise<string[]> {
  try {
    await runnableArgv(command, how);
    checkLogFolder(command.logDir);
    checkLogDir(command.logDir);
    return resolveCommand(command, how.env);
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

function checkInterpreter({ path, executable, shebang }: CommandScript): void {
  if (!executable || shebang === undefined) return;
  const interpreter = shebang.split(/[ \t]/, 1)[0]!;
  if (!mayRun(interpreter)) {
    throw new LaunchError(`its interpreter ${JSON.stringify(interpreter)} cannot be run`);
  }
  if (!mayRun(path)) throw new LaunchError("it is not executable by the host-agent's user");
}

/** The absolute path of the program that `command` names. Throws LaunchError when there is none that is executable. */
export function findProgram(command: string, cwd: string, env: Record<string, string>): string {
  const candidates = command.includes("/")
    ? [resolve(cwd, command)]
    : (env["PATH"] ?? "")
        .split(delimiter)
        .filter(isAbsolute)
        .map((folder) => join(folder, command));
  const program = candidates.find((candidate) => mayRun(candidate) && statSync(candidate).isFile());
  if (program === undefined) {
    throw new LaunchError(`program ${JSON.stringify(command)} was not found or is not executable`);
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

/** Why a command cannot be started, in words that fit behind "cannot start it:". */
class LaunchError extends Error {
  override readonly name = "LaunchError";
}

/** The problem that reports an error on the way to a started command. */
export function launchProblem(error: unknown): ApiProblem {
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
