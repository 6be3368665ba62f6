import { readdirSync, readFileSync } from "node:fs";

import { isUnableToLook } from "../system/exhaustion.ts";
import { hasEnded, type ProcessStat, readStat } from "./process-identity.ts";

/** The name of the environment variable that every process of a run inherits. */
export const RUN_ID_VARIABLE = "HUB_RUN_ID";

/**
 * Every living process of a run: its process group and session, whatever
 * carries the run's id in its environment (that finds setsid'ed daemons), and
 * all descendants of these. `leader` is the wrapper's pid if it is known to be
 * the run's own.
 */
export function processesOf(runId: string, leader?: number): ProcessStat[] {
  const marker = `${RUN_ID_VARIABLE}=${runId}`;
  const all = livingProcesses();
  const members = new Map<number, ProcessStat>();
  for (const stat of all) {
    const inGroup = leader !== undefined && (stat.pgrp === leader || stat.session === leader);
    if (inGroup || hasEnvironmentEntry(stat.pid, marker)) members.set(stat.pid, stat);
  }
  addDescendants(members, all);
  return [...members.values()];
}

/** True when the environment that the process was started with holds exactly this entry (proc_pid_environ(5)). */
export function hasEnvironmentEntry(pid: number, entry: string): boolean {
  try {
    const environ = readFileSync(`/proc/${pid}/environ`, "latin1");
    return environ.startsWith(`${entry}\0`) || environ.includes(`\0${entry}\0`);
  } catch (error) {
    if (isUnableToLook(error)) throw error;
    return false;
  }
}

/** The words of a process, each with a NUL behind it (proc_pid_cmdline(5)); "" when it is gone. */
export function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1");
  } catch {
    return "";
  }
}

function livingProcesses(): ProcessStat[] {
  const stats: ProcessStat[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = readStat(Number(name));
    if (stat && !hasEnded(stat) && stat.pid !== process.pid) stats.push(stat);
  }
  return stats;
}

function addDescendants(members: Map<number, ProcessStat>, all: readonly ProcessStat[]): void {
  let grew = members.size > 0;
  while (grew) {
    grew = false;
    for (const stat of all) {
      if (!members.has(stat.pid) && members.has(stat.ppid)) {
        members.set(stat.pid, stat);
        grew = true;
      }
    }
  }
}
