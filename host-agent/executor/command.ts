import { accessSync, constants, readSync, realpathSync, type Stats, statSync } from "node:fs";
import { basename, delimiter, dirname, isAbsolute, join, resolve } from "node:path";

import { isExhausted, isUnableToLook } from "../system/exhaustion.ts";
import { openFile } from "../system/open-file.ts";
import { type FirstLine, readFirstLine, SHEBANG_BYTES } from "../system/shebang.ts";
import { checkLogFolder } from "../logs/log-folder.ts";
import { ApiProblem } from "../protocol/problem.ts";
import type { Command } from "./executor.ts";
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
  const { argv, cwd, script } = command;
  const [name, ...args] = argv as [string, ...string[]];
  if (script?.fault !== undefined) throw new LaunchError(`it ${script.fault}`);
  checkFolder(cwd);
  const program = script ? name : findProgram(name, cwd, env);
  const subject = script ? "its interpreter" : `the interpreter of ${JSON.stringify(name)}`;
  if (script && program !== script.path) checkExecutable(program, subject);
  else checkFirstLine(program, { name: script ? "it" : quoted(name), subject, cwd });
  if (!script && isShell(program)) checkShellScript(args, cwd);
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
  const stats = lookAt(cwd);
  if (!stats) throw new LaunchError("its working folder does not exist");
  if (!stats.isDirectory()) throw new LaunchError("its working folder is not a folder");
}

/** Checks what the kernel will read of a program, before anything starts: a program with an interpreter that is missing ends as 127. */
function checkFirstLine(
  program: string,
  { name, subject, cwd }: { name: string; subject: string; cwd: string },
): void {
  const { interpreter, fault } = firstLineOf(program);
  if (fault !== undefined) throw new LaunchError(`${name} ${fault}`);
  if (interpreter) checkExecutable(resolve(cwd, interpreter[0]), subject);
}

function checkExecutable(path: string, subject: string): void {
  const obstacle = obstacleToRun(path);
  if (obstacle !== undefined) throw new LaunchError(`${subject} ${JSON.stringify(path)} ${obstacle}`);
}

function isShell(program: string): boolean {
  return /^(?:ba|da|z|k)?sh$/.test(basename(program));
}

/** A file of a recipe that a shell is about to read. */
function checkShellScript([file]: readonly string[], cwd: string): void {
  if (file === undefined || file.startsWith("-")) return;
  const { fault } = firstLineOf(resolve(cwd, file));
  if (fault !== undefined) throw new LaunchError(`${quoted(file)} ${fault}`);
}

/** Nothing is known of a file that cannot be read: it may be executable all the same. */
function firstLineOf(path: string): FirstLine {
  try {
    using file = openFile(realpathSync(path));
    const head = Buffer.alloc(SHEBANG_BYTES);
    return readFirstLine(head.subarray(0, readSync(file.fd, head, 0, head.length, 0)));
  } catch (error) {
    if (isUnableToLook(error)) throw error;
    return { interpreter: undefined, fault: undefined };
  }
}

function quoted(name: string): string {
  return `program ${JSON.stringify(name)}`;
}

/** The absolute path of the program that `command` names. Throws LaunchError when there is none that is executable. */
export function findProgram(command: string, cwd: string, env: Record<string, string>): string {
  const candidates = command.includes("/")
    ? [resolve(cwd, command)]
    : (env["PATH"] ?? "")
        .split(delimiter)
        .filter(isAbsolute)
        .map((folder) => join(folder, command));
  const existing = candidates.filter((candidate) => lookAt(candidate) !== undefined);
  const program = existing.find((candidate) => obstacleToRun(candidate) === undefined);
  if (program !== undefined) return program;
  if (existing.length > 0) throw new LaunchError(`${quoted(command)} ${obstacleToRun(existing[0]!)}`);
  throw new LaunchError(`${quoted(command)} was not found or is not executable`);
}

const X_BITS = 0o111;

/** Why the file cannot be executed, in words that fit behind its name; undefined when it can. */
function obstacleToRun(path: string): string | undefined {
  const stats = lookAt(path);
  if (!stats) return "does not exist";
  if (stats.isDirectory()) return "is a folder, not a program";
  if (!stats.isFile()) return "is not a regular file";
  if ((stats.mode & X_BITS) === 0) return "is not executable: it has no x bit; chmod +x sets it";
  try {
    accessSync(path, constants.X_OK);
    return undefined;
  } catch (error) {
    if (isUnableToLook(error)) throw error;
    // Root may execute all that has an x bit.
    return process.getuid?.() === 0
      ? "is on a file system that is mounted noexec"
      : "may not be executed by the host-agent's user, or is on a file system that is mounted noexec";
  }
}

/** Undefined when nothing exists there, as far as this user may look. Throws what tells nothing about the path. */
function lookAt(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    if (["EACCES", "EPERM", "ELOOP", "ENAMETOOLONG"].includes((error as NodeJS.ErrnoException).code ?? "")) {
      return undefined;
    }
    throw error;
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
