import { constants, existsSync, lstatSync, mkdirSync, readSync, writeFileSync } from "node:fs";
import { mkdir, open, rmdir, unlink } from "node:fs/promises";
import { join } from "node:path";

import { openFile } from "../system/open-file.ts";
import { isUnableToLook, unreadableCode } from "../system/exhaustion.ts";
import { removeIfOurs } from "../system/remove.ts";
import { toDateRange } from "../system/file-time.ts";

/**
 * The folder of one run, written by its wrapper and by nobody else afterwards:
 *
 * - `started`: the wrapper's pid and the version of the wrapper; its creator owns the run. Then a line `command` directly
 *   before the command starts, and a line `error` with an errno if it could not be started
 * - `exit`: blanks; the exit code once the command has ended; and a newline behind it once the run is over, with its output
 *
 * A wrapper of version 1.0 (run.sh) writes only its pid, and the exit code with the newline.
 */
export interface RunFolder {
  path: string;
  started: string;
  exit: string;
}

/** What `started` holds when the agent has claimed the run so that no wrapper can. */
const CLAIMED_BY_AGENT = "agent\n";
/** More than either file ever holds. */
const MAX_CONTENT_BYTES = 64;
/** Longer than any exit code with its newline: the wrapper overwrites it in place. */
const NO_EXIT_CODE = " ".repeat(8);
/** No pid is higher (proc_sys_kernel(5), pid_max). */
const MAX_PID = 4_194_304;
/** What a wrapper begins its claim with, as of version 1.1. */
const VERSION_2 = /^\d{1,7} 2\n/;

export function runFolder(stateDir: string, runId: string): RunFolder {
  const path = join(stateDir, "runs", runId);
  return { path, started: join(path, "started"), exit: join(path, "exit") };
}

/** Makes the folder and reserves space for the exit code. Throws EEXIST when it exists. */
export function createRunFolder(folder: RunFolder): void {
  mkdirSync(folder.path, { mode: 0o700 });
  writeFileSync(folder.exit, NO_EXIT_CODE, { flag: "wx", mode: 0o600 });
}

/** The user and group of the run: its folder was given to them, and nobody but root can give it away. */
export function folderOwner({ path }: RunFolder): { uid: number; gid: number } {
  const { uid, gid } = lstatSync(path);
  return { uid, gid };
}

/**
 * Claims a run that no wrapper has claimed, with the primitive that the wrapper
 * uses: O_EXCL. True if the run is now ours, and can never start.
 */
export async function claimRun(folder: RunFolder): Promise<boolean> {
  await mkdir(folder.path, { recursive: true, mode: 0o700 });
  try {
    const { O_CREAT, O_EXCL, O_WRONLY } = constants;
    await using file = await open(folder.started, O_WRONLY | O_CREAT | O_EXCL, 0o600);
    await file.writeFile(CLAIMED_BY_AGENT);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    return readStarted(folder) === "agent";
  }
}

/**
 * The wrapper's pid, as the file has it: the run can write any; "agent" for a run that was claimed; undefined while
 * nothing whole is written, and for a number that no process can have.
 */
export function readStarted(folder: RunFolder): number | "agent" | undefined {
  const text = readOrUndefined(folder.started)?.text;
  if (text === CLAIMED_BY_AGENT) return "agent";
  const digits = text && /^(\d{1,7})(?: 2)?\n/.exec(text)?.[1];
  const pid = digits ? Number(digits) : undefined;
  return pid !== undefined && pid >= 1 && pid <= MAX_PID ? pid : undefined;
}

/**
 * True while the run is claimed and no pid is written: its command has not been
 * started, for the wrapper writes the pid first. After a power cut it proves
 * nothing: the write may not have reached the disk.
 */
export function isClaimEmpty(folder: RunFolder): boolean {
  return readOrUndefined(folder.started)?.text === "";
}

/**
 * True when a wrapper that is gone has not come to start the command: the
 * folder is as the agent made it, and no pid is in it. As `isClaimEmpty`,
 * it proves nothing after a power cut.
 */
export function isUntouched(folder: RunFolder): boolean {
  return existsSync(folder.exit) && (!existsSync(folder.started) || isClaimEmpty(folder));
}

/** Whether the command leads a separate process group, so that the group of the wrapper is the run's machinery only. */
export function isCommandApart(folder: RunFolder): boolean {
  return VERSION_2.test(readOrUndefined(folder.started)?.text ?? "");
}

/**
 * True when a wrapper says that its command ended before anything of it had run, as by a SIGKILL between the claim and
 * the start. As `isClaimEmpty`, it proves nothing after a power cut.
 */
export function isCommandMissing(folder: RunFolder): boolean {
  const text = readOrUndefined(folder.started)?.text ?? "";
  return VERSION_2.test(text) && !text.includes("\ncommand\n");
}

/** Why the command could not be executed, an errno such as ENOENT; undefined when nothing is known against it. */
export function execErrorOf(folder: RunFolder): string | undefined {
  return /\nerror (E[A-Z0-9]+)\n/.exec(readOrUndefined(folder.started)?.text ?? "")?.[1];
}

/** What the file `exit` says. The run can write it, and set its time. */
export interface Exit {
  /** 0 to 999. */
  code: number;
  /** When it was written, in whole epoch milliseconds: what the file system says, between two times that a Date takes. */
  at: number;
  /** False while the command has ended, and its output may not have. */
  isOver: boolean;
}

/**
 * The exit code, if a whole one is written: an empty or partial file is none. Code and time are of one file. Throws when
 * the file cannot be read now.
 */
export function readExit(folder: RunFolder): Exit | undefined {
  const content = readOrUndefined(folder.exit);
  const [, over, ended] = /^(?: *(\d{1,3})\n|( {2}\d| \d\d|\d{3}) {5}$)/.exec(content?.text ?? "") ?? [];
  const code = over ?? ended;
  if (code === undefined) return undefined;
  return { code: Number(code), at: toDateRange(content!.mtimeMs), isOver: over !== undefined };
}

/** Removes the folder and our own two files; with anything else in it, which only the run can have put there, it stays. Rejects when the file system fails. */
export async function removeRunFolder({ path, started, exit }: RunFolder): Promise<void> {
  await removeIfOurs(() => unlink(started));
  await removeIfOurs(() => unlink(exit));
  await removeIfOurs(() => rmdir(path));
}

/** The folder may belong to the run's own user: nothing is followed, waited for or read to its end there. */
function readOrUndefined(path: string): { text: string; mtimeMs: number } | undefined {
  try {
    using file = openFile(path);
    const buffer = Buffer.alloc(MAX_CONTENT_BYTES);
    const text = buffer.toString("latin1", 0, readSync(file.fd, buffer));
    return { text, mtimeMs: file.stats.mtimeMs };
  } catch (error) {
    if (isUnableToLook(error) || unreadableCode(error) !== undefined) throw error;
    return undefined;
  }
}
