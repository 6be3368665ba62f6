import { readFileSync } from "node:fs";

import { isUnableToLook } from "../system/exhaustion.ts";

/** Far from every limit that anybody sets, and below what the kernel takes for "unlimited". */
const BASE = 1n << 60n;
const RUN_ID = /^run_([0-9a-f]{12})$/;

/**
 * The soft limit of file locks (RLIMIT_LOCKS) of every process of this run, in decimal digits; undefined for what is no
 * id of a run. The limit has had no effect since Linux 2.4 (getrlimit(2)); children inherit it over fork, exec, setsid and a
 * change of user; a process cannot lose it by writing to its own memory, as it can lose its environment; and
 * /proc/PID/limits shows it to everybody.
 */
export function markOf(runId: string): string | undefined {
  const hex = RUN_ID.exec(runId)?.[1];
  return hex === undefined ? undefined : String(BASE + BigInt(`0x${hex}`));
}

/**
 * The id of the run whose mark the process has; undefined for none, and for a process that is gone. Throws when it cannot
 * be looked at now.
 */
export function markedRunOf(pid: number): string | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/limits`, "latin1");
  } catch (error) {
    if (isUnableToLook(error)) throw error;
    return undefined;
  }
  const soft = /^Max file locks +(\d+) /m.exec(text)?.[1];
  const number = soft === undefined ? 0n : BigInt(soft) - BASE;
  if (number < 0n || number >> 48n !== 0n || soft === undefined) return undefined;
  return `run_${number.toString(16).padStart(12, "0")}`;
}
