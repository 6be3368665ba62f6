import { readdirSync } from "node:fs";
import { join } from "node:path";

import { RUN_ID } from "../protocol/limits.ts";
import { sleep } from "../system/sleep.ts";
import { removeLeaf } from "./cgroup-leaf.ts";
import { killAll } from "./cgroup-signals.ts";

/** How often, and how far apart, to try to remove the leaf of a run that has ended: its wrapper may be about to end. */
const REMOVE_TRIES = 20;
const REMOVE_INTERVAL_MS = 25;

/**
 * Removes the leaf of a run that has ended; with `kill` it ends the processes in it first. A leaf in which a process stays alive is
 * kept, for `sweepLeaves`.
 */
export async function releaseLeaf(leaf: string, { kill }: { kill: boolean }): Promise<void> {
  if (kill) killAll(leaf);
  for (let tries = 0; !removeLeaf(leaf) && tries < REMOVE_TRIES; tries++) await sleep(REMOVE_INTERVAL_MS);
}

/**
 * Releases the leaves in `root` of runs that have ended: `endOf` is undefined for a run that is alive, and for one of another state
 * folder, which may share the root.
 */
export async function sweepLeaves(
  root: string,
  endOf: (runId: string) => { kill: boolean } | undefined,
): Promise<void> {
  for (const { name } of readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isDirectory())) {
    if (!RUN_ID.test(name)) continue;
    const end = endOf(name);
    if (end === undefined) continue;
    if (end.kill) killAll(join(root, name));
    removeLeaf(join(root, name));
  }
}
