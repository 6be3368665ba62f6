import { closeSync, constants, fchownSync, openSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";

import { logEndMark, LOST_OUTPUT_LINE } from "../logs/log-limit.ts";
import { findProgram } from "./command.ts";
import { DEFAULT_PATH } from "./environment.ts";
import { markOf } from "./run-mark.ts";

/** What a wrapper has to know. */
export interface Order {
  runId: string;
  /** The folder of the run, as the wrapper reaches it. */
  folder: string;
  /** The command; the first word is an absolute path. */
  argv: readonly string[];
  /** The size limit of the log in bytes; undefined for none. */
  logLimit: number | undefined;
  /** Whether the wrapper enters the cgroup whose `cgroup.procs` is its descriptor 4. */
  hasCgroup: boolean;
}

/** The order as wrapper.sh reads it: assignments, the words of the command as its arguments, and a last line that proves that it is whole. */
export function shellOrder({ runId, folder, argv, logLimit, hasCgroup }: Order): string {
  const values = {
    folder,
    mark: markOf(runId) ?? "",
    cgroup: hasCgroup ? "yes" : "",
    limit: logLimit === undefined ? "" : String(logLimit),
    end_line: logLimit === undefined ? "" : logEndMark(logLimit).toString(),
    lost_line: LOST_OUTPUT_LINE,
    ...tools(),
  };
  const assignments = Object.entries(values).map(([name, value]) => `hub_${name}=${quoted(value)}`);
  return `${assignments.join("\n")}\nset -- ${argv.map(quoted).join(" ")}\nhub_complete=yes\n`;
}

/** The order as the helper reads it: fields that each end with a NUL. */
export function helperOrder({ runId, argv, logLimit, hasCgroup }: Order): string {
  const fields = [
    "hub-order 1",
    hasCgroup ? "yes" : "",
    logLimit === undefined ? "" : String(logLimit),
    markOf(runId) ?? "",
    logLimit === undefined ? "" : logEndMark(logLimit).toString(),
    LOST_OUTPUT_LINE,
    String(argv.length),
    ...argv,
    "end",
  ];
  return fields.map((field) => `${field}\0`).join("");
}

/**
 * A file without a name that holds the order, to be read: it is gone with the last descriptor, and a command line, which
 * everybody on the host can read, holds none of it. `owner` may read it. Throws what the file system says.
 */
export function openOrder(
  text: string,
  dir: string,
  owner?: { uid: number; gid: number },
): { fd: number } & Disposable {
  const path = join(dir, "order");
  const { O_CREAT, O_EXCL, O_RDWR, O_NOFOLLOW } = constants;
  const fd = openSync(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    unlinkSync(path);
    const bytes = Buffer.from(text);
    // At an offset: the wrapper reads from the descriptor's position, which stays 0.
    for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at, bytes.length - at, at);
    if (owner) fchownSync(fd, owner.uid, owner.gid);
    return { fd, [Symbol.dispose]: () => closeSync(fd) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

const TOOLS = ["cat", "mkfifo", "prlimit", "rm", "setsid", "sleep"] as const;
let found: Record<string, string> | undefined;

/** The programs of the wrapper, from the folders of the distribution: the PATH of a job is the job's. Throws as `findProgram` does. */
function tools(): Record<string, string> {
  found ??= Object.fromEntries(TOOLS.map((name) => [name, findProgram(name, "/", { PATH: DEFAULT_PATH })]));
  return found;
}
