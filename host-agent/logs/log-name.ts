import { lstatSync } from "node:fs";
import { join } from "node:path";

/** The path of a run's log, and another one that no other run has, for when the first is taken. */
export interface LogPaths {
  path: string;
  spare: string;
}

/**
 * Chooses the path of a new log: `<folder>/<name>__YYYYMMDD_HHMMSS.log` in local time, with the run's id behind that
 * when something is at that path already. `startedAt` in epoch milliseconds.
 */
export function chooseLogPaths(
  folder: string,
  name: string,
  { startedAt, runId }: { startedAt: number; runId: string },
): LogPaths {
  const at = new Date(startedAt);
  const path = join(folder, logFileName(name, at));
  const spare = join(folder, logFileName(name, at, `_${runId.replace(/^run_/, "")}`));
  return { path: isTaken(path) ? spare : path, spare };
}

/** True when anything is at `path`, a link that leads nowhere included. */
function isTaken(path: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch {
    return false;
  }
}

/** `<name>__YYYYMMDD_HHMMSS.log` in local time, of characters that any file system and shell takes. */
export function logFileName(name: string, startedAt: Date, suffix = ""): string {
  return logFileNameAt(name, `${stampOf(startedAt)}${suffix}`);
}

/** The path of a log of this name, with the letters of the date and time in their places. */
export function logFilePattern(folder: string, name: string): string {
  return join(folder, logFileNameAt(name, "YYYYMMDD_HHMMSS"));
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
