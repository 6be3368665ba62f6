import { readdirSync, readFileSync } from "node:fs";

import { hasEnded, type ProcessStat, readStat } from "./process-identity.ts";

/** More processes than this are left to a walk over all of the host, which pauses. */
const MOST = 200;

/** The children of a process, by all of its threads (proc_pid_task(5)); undefined where the kernel does not list them. */
export function childrenOf(pid: number): number[] | undefined {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
      readFileSync(`/proc/${pid}/task/${thread}/children`, "latin1").split(" ").filter(Boolean).map(Number),
    );
  } catch {
    return undefined;
  }
}

/**
 * The living descendants of a process, found without a look at any other process of the host. Undefined when there are too
 * many, or the kernel does not list them. A process that is started meanwhile may be missing, as in a walk.
 */
export function descendantsOf(pid: number): ProcessStat[] | undefined {
  const found = new Map<number, ProcessStat>();
  const parents = [pid];
  for (let parent = parents.pop(); parent !== undefined; parent = parents.pop()) {
    const children = childrenOf(parent);
    // One that has ended has no children any more; of any other it is not known.
    if (children === undefined && readStat(parent) !== undefined) return undefined;
    for (const child of children ?? []) {
      const stat = found.has(child) ? undefined : readStat(child);
      // Between the two reads the pid may have become another process.
      if (!stat || hasEnded(stat) || stat.ppid !== parent) continue;
      if (found.size >= MOST) return undefined;
      found.set(child, stat);
      parents.push(child);
    }
  }
  return [...found.values()];
}
