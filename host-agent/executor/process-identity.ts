import { closeSync, openSync, readFileSync, readSync } from "node:fs";

import { isUnableToLook } from "../system/exhaustion.ts";

/**
 * One process, forever: a pid alone is reused, a pid with its start time within
 * one boot is not.
 */
export interface ProcessIdentity {
  pid: number;
  /** Field 22 of /proc/PID/stat, in clock ticks since boot (proc_pid_stat(5)). */
  startTime: string;
  bootId: string;
}

/** What /proc/PID/stat says of a process (proc_pid_stat(5)). */
export interface ProcessStat {
  pid: number;
  /** One letter: R, S, D, T, Z (zombie), X (dead). */
  state: string;
  ppid: number;
  pgrp: number;
  session: number;
  startTime: string;
}

let bootId: string | undefined;

/** The id of this boot of the kernel (random(4)); it never changes while we live. */
export function currentBootId(): string {
  bootId ??= readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  return bootId;
}

/** Longer than any stat: a name of at most 64 bytes, and some fifty numbers. */
const statBytes = Buffer.allocUnsafeSlow(2_048);
/** The last field that is used, counted from the state. */
const STAT_FIELDS = 20;

/** The stat of a process, or undefined when there is none with this pid. Throws when it cannot be looked at now. */
export function readStat(pid: number): ProcessStat | undefined {
  let text: string;
  try {
    // A walk reads thousands of them: readFileSync takes twice the system calls.
    const fd = openSync(`/proc/${pid}/stat`, "r");
    try {
      text = statBytes.toString("latin1", 0, readSync(fd, statBytes, 0, statBytes.length, null));
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (isUnableToLook(error)) throw error;
    return undefined;
  }
  // The command name is in parentheses and may contain anything, also ")".
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ", STAT_FIELDS);
  const [state, ppid, pgrp, session] = fields;
  const startTime = fields[19];
  if (state === undefined || startTime === undefined) return undefined;
  return { pid, state, ppid: Number(ppid), pgrp: Number(pgrp), session: Number(session), startTime };
}

/** A zombie has ended: it only waits for a parent that reads its exit code, perhaps forever. */
export function hasEnded(stat: ProcessStat): boolean {
  return stat.state === "Z" || stat.state === "X";
}

/** The identity of the living process with this pid, or undefined. */
export function identify(pid: number): ProcessIdentity | undefined {
  const stat = readStat(pid);
  if (!stat || hasEnded(stat)) return undefined;
  return { pid, startTime: stat.startTime, bootId: currentBootId() };
}

/** True while exactly this process runs; false once it is gone, a zombie, replaced, or from another boot. */
export function isAlive(identity: ProcessIdentity): boolean {
  if (identity.bootId !== currentBootId()) return false;
  const stat = readStat(identity.pid);
  return stat !== undefined && stat.startTime === identity.startTime && !hasEnded(stat);
}
