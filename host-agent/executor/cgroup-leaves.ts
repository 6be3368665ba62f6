import { join } from "node:path";

import { ApiProblem } from "../protocol/problem.ts";
import { createLeaf, removeLeaf } from "./cgroup-leaf.ts";
import { type RunLimits, unenforceable, writeLimits } from "./cgroup-limits.ts";
import type { CgroupRoot, NoCgroup } from "./cgroup-root.ts";
import { launchProblem } from "./command.ts";

/** The leaves of new runs, with their limits. `defaults` hold for a run whose command has no limit of that kind. */
export function cgroupLeaves(root: CgroupRoot | NoCgroup, defaults: RunLimits) {
  const limitsOf = (own: RunLimits | undefined): RunLimits => ({ ...defaults, ...own });
  const controllers = root.path === undefined ? new Set<never>() : root.controllers;

  return {
    leafOf: (runId: string) => (root.path === undefined ? undefined : join(root.path, runId)),

    /** Why a run with these limits cannot be started; undefined when it can. */
    problem(own: RunLimits | undefined): ApiProblem | undefined {
      const fields = unenforceable(limitsOf(own), controllers).map(({ field }) => field);
      if (fields.length === 0) return undefined;
      return new ApiProblem(
        "launch_failed",
        `Cannot start it: this host cannot enforce ${fields.join(", ")}; its operator finds the reason with \`npm run doctor\``,
      );
    },

    /** Starts a run in the leaf that `leafOf` named for it, which is made with its limits; and removed when nothing was started. */
    async startIn<T>(
      leaf: string | undefined,
      own: RunLimits | undefined,
      start: () => Promise<T>,
    ): Promise<T> {
      if (leaf === undefined) return start();
      try {
        createLeaf(leaf);
        writeLimits(leaf, limitsOf(own));
      } catch (error) {
        tryToRemove(leaf);
        throw launchProblem(error);
      }
      try {
        return await start();
      } catch (error) {
        if (error instanceof ApiProblem) tryToRemove(leaf);
        throw error;
      }
    },
  };
}

/** What stays is removed by the sweep. */
function tryToRemove(leaf: string): void {
  try {
    removeLeaf(leaf);
  } catch {
    // The launch fails for its own reason.
  }
}
