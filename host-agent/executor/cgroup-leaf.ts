import { mkdirSync, rmdirSync } from "node:fs";
import { join } from "node:path";

import { isPopulated, pidsIn, readCgroupFile, readCounter, withDescendants } from "./cgroup-files.ts";
import type { CgroupFacts, HandleProcess } from "./executor.ts";
import { hasEnded, type ProcessStat, readStat } from "./process-identity.ts";

// A leaf is the cgroup of one run. Its wrapper enters it before it claims the run, so all processes of the run are in it.

/** Makes the leaf of a run. Throws the errno of mkdir(2): EEXIST, EAGAIN where the number of cgroups is limited, and others. */
export function createLeaf(leaf: string): void {
  mkdirSync(leaf, { mode: 0o755 });
}

/** Where a process enters the leaf by writing `0`. */
export function entryOf(leaf: string): string {
  return join(leaf, "cgroup.procs");
}

/** The living processes of a run. */
export function leafMembers(leaf: string): ProcessStat[] {
  return pidsIn(leaf).flatMap((pid) => {
    const stat = readStat(pid);
    return stat && !hasEnded(stat) ? [stat] : [];
  });
}

/** Removes a leaf with what the run has made below it. False while a process is alive in it; true when it is gone. */
export function removeLeaf(leaf: string): boolean {
  if (isPopulated(leaf)) return false;
  for (const cgroup of withDescendants(leaf).toReversed()) {
    try {
      rmdirSync(cgroup);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // EBUSY, ENOTEMPTY: a process has entered it, or another cgroup was made in it, since.
      if (code === "EBUSY" || code === "ENOTEMPTY") return false;
      if (code !== "ENOENT" && code !== "ENODEV") throw error;
    }
  }
  return true;
}

/**
 * Whether this is the wrapper of a run, of that pid and start time, or its pump: the command leads another group, so all that
 * is in the wrapper's group is the run's machinery.
 */
export function isWrapperOf(process: HandleProcess | undefined): (stat: ProcessStat) => boolean {
  return ({ pid, pgrp, startTime }) =>
    pid === process?.pid ? startTime === process.startTime : pgrp === process?.pid;
}

/** What the kernel says of a run that has ended; undefined when its leaf does not exist. */
export function cgroupFacts(leaf: string, wrapper: HandleProcess | undefined): CgroupFacts | undefined {
  const cpuUsec = readCounter(leaf, "cpu.stat", "usage_usec");
  if (cpuUsec === undefined) return undefined;
  const isWrapper = isWrapperOf(wrapper);
  // Since Linux 5.19, and only with the memory controller.
  const peak = readCgroupFile(leaf, "memory.peak")?.trim();
  return {
    leftBehind: leafMembers(leaf).filter((stat) => !isWrapper(stat)).length,
    cpuUsec,
    memoryPeak: peak !== undefined && /^\d{1,15}$/.test(peak) ? Number(peak) : undefined,
    oomKills: readCounter(leaf, "memory.events", "oom_kill") ?? 0,
  };
}
