import { existsSync } from "node:fs";

import { sleep } from "../system/sleep.ts";

import { pidsIn } from "./cgroup-files.ts";
import { leafMembers, removeLeaf } from "./cgroup-leaf.ts";
import type { Handle } from "./executor.ts";
import { currentBootId, identify } from "./process-identity.ts";
import type { ProcessPasses } from "./process-passes.ts";
import { belongsTo } from "./process-owner.ts";
import { hasEnvironmentEntry, RUN_ID_VARIABLE } from "./process-tree.ts";
import { claimRun, folderOwner, isClaimEmpty, readStarted, type RunFolder } from "./run-folder.ts";

/** How often, and how far apart, to look for the pid of a wrapper that has just claimed its run. */
const STARTED_LOOKS = 20;
const STARTED_LOOK_INTERVAL_MS = 25;

/**
 * Decides about a launch that nobody completed: claims the run, so that no wrapper can start it, or finds the process
 * that has claimed it. The claim is one open(2) with O_EXCL on both sides, so exactly one of them wins. A run of
 * another boot of the host is over, and may have run: it is never claimed.
 */
export async function recoverRun(
  runId: string,
  launchedIn: string,
  { folder, passes, cgroup }: { folder: RunFolder; passes: ProcessPasses; cgroup?: string | undefined },
): Promise<"never_started" | Handle> {
  // After a restart of the host a missing claim proves nothing: the wrapper's may not have reached the disk.
  if (launchedIn !== currentBootId()) return { runId, launchedIn, cgroup, process: undefined };
  if (await claimRun(folder)) {
    // A wrapper that comes later cannot enter it, and ends.
    if (cgroup !== undefined) removeLeaf(cgroup);
    return "never_started";
  }
  let pid = readStarted(folder);
  for (let looks = 0; pid === undefined && looks < STARTED_LOOKS; looks++) {
    await sleep(STARTED_LOOK_INTERVAL_MS);
    pid = readStarted(folder);
  }
  const found = typeof pid === "number" ? pid : await anyProcessOf(runId, { folder, passes, cgroup });
  // Read after the processes: a wrapper that is gone writes no more.
  if (found === undefined && isClaimEmpty(folder)) return "never_started";
  const isItsOwn = found !== undefined && isOf(runId, found, { folder, cgroup });
  return { runId, launchedIn, cgroup, process: found === undefined ? undefined : processOf(found, isItsOwn) };
}

async function anyProcessOf(
  runId: string,
  { folder, passes, cgroup }: { folder: RunFolder; passes: ProcessPasses; cgroup?: string | undefined },
): Promise<number | undefined> {
  if (cgroup !== undefined && existsSync(cgroup)) {
    // The wrapper is the oldest; what it starts in the same tick of the kernel's clock has a higher pid.
    const byAge = leafMembers(cgroup).toSorted(
      (one, other) => Number(one.startTime) - Number(other.startTime) || one.pid - other.pid,
    );
    return byAge[0]?.pid;
  }
  const { uid } = folderOwner(folder);
  const tree = { runId, leader: undefined, since: undefined, uid };
  return (await passes.take([tree])).of(tree)[0]?.pid;
}

/** Whether the process with this pid is in the run's cgroup; without one, whether it carries the run's id and has the run's user. */
function isOf(
  runId: string,
  pid: number,
  { folder, cgroup }: { folder: RunFolder; cgroup?: string | undefined },
): boolean {
  if (cgroup !== undefined && existsSync(cgroup)) return pidsIn(cgroup).includes(pid);
  return hasEnvironmentEntry(pid, `${RUN_ID_VARIABLE}=${runId}`) && belongsTo(pid, folderOwner(folder).uid);
}

/** Without a start time and boot unless it is the run's own: then it is never taken for alive, and never signalled. The run can write any pid. */
function processOf(pid: number, isItsOwn: boolean) {
  const identity = isItsOwn ? identify(pid) : undefined;
  return { pid, startTime: identity?.startTime, bootId: identity?.bootId };
}
