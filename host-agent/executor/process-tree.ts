import { readdirSync, readFileSync } from "node:fs";

import { isUnableToLook } from "../system/exhaustion.ts";
import { hasEnded, type ProcessStat, readStat } from "./process-identity.ts";

/** The name of the environment variable that every process of a run inherits. */
export const RUN_ID_VARIABLE = "HUB_RUN_ID";

/** The processes of the host at one moment. */
export interface ProcessList {
  /**
   * Every living process of a run: its process group and session, all that have the run's id in their environment (that
   * finds setsid'ed daemons), and all descendants of these. `leader` is the wrapper's pid if it is known to be the
   * run's own.
   */
  of(runId: string, leader: number | undefined): ProcessStat[];
}

/** Lists the living processes, except this one. Environments are read at most once each, when they are needed. */
export function listProcesses(): ProcessList {
  const all = livingProcesses();
  let byRunId: Map<string, ProcessStat[]> | undefined;
  return {
    of(runId, leader) {
      byRunId ??= groupByRun(all);
      const members = new Map((byRunId.get(runId) ?? []).map((stat) => [stat.pid, stat]));
      if (leader !== undefined) {
        for (const stat of all) {
          if (stat.pgrp === leader || stat.session === leader) members.set(stat.pid, stat);
        }
      }
      addDescendants(members, all);
      return [...members.values()];
    },
  };
}

/** Every living process of a run now, as ProcessList's `of` finds them. */
export function processesOf(runId: string, leader?: number): ProcessStat[] {
  return listProcesses().of(runId, leader);
}

/** The processes of each run, by the environment that each was started with (proc_pid_environ(5)). */
function groupByRun(all: readonly ProcessStat[]): Map<string, ProcessStat[]> {
  const byRun = new Map<string, ProcessStat[]>();
  for (const stat of all) {
    for (const [, runId = ""] of `\0${readEnvironment(stat.pid)}`.matchAll(RUN_ID_ENTRY)) {
      const members = byRun.get(runId);
      if (members) members.push(stat);
      else byRun.set(runId, [stat]);
    }
  }
  return byRun;
}

// The NUL behind one entry is the NUL before the next.
// oxlint-disable-next-line no-control-regex -- it separates the entries
const RUN_ID_ENTRY = new RegExp(`\0${RUN_ID_VARIABLE}=([^\0]*)(?=\0)`, "g");

/** True when the environment that the process was started with holds exactly this entry (proc_pid_environ(5)). */
export function hasEnvironmentEntry(pid: number, entry: string): boolean {
  return `\0${readEnvironment(pid)}`.includes(`\0${entry}\0`);
}

/** "" for a process that is gone, and for one that may not be read. Throws when it cannot be looked at now. */
function readEnvironment(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, "latin1");
  } catch (error) {
    if (isUnableToLook(error)) throw error;
    return "";
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
