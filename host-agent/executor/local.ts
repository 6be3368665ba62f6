import { existsSync } from "node:fs";

import { ApiProblem } from "../protocol/problem.ts";
import { watchFiles } from "../logs/log-wait.ts";
import { unreadableCode } from "../system/exhaustion.ts";
import { createPatience } from "../system/patience.ts";
import { launchProblem, previewArgv } from "./command.ts";
import { buildEnvironment } from "./environment.ts";
import { entryOf, isWrapperOf } from "./cgroup-leaf.ts";
import { cgroupLeaves } from "./cgroup-leaves.ts";
import type { RunLimits } from "./cgroup-limits.ts";
import { releaseLeaf, sweepLeaves } from "./cgroup-release.ts";
import type { CgroupRoot, NoCgroup } from "./cgroup-root.ts";
import { killLeaf, signalLeaf } from "./cgroup-signals.ts";
import type { Executor, Handle } from "./executor.ts";
import { lookAt } from "./look.ts";
import { type ProcessPasses, processPasses } from "./process-passes.ts";
import { recoverRun } from "./recover.ts";
import type { RunUser } from "./run-as.ts";
import { isCommandApart, removeRunFolder, runFolder } from "./run-folder.ts";
import { runEnds } from "./run-ends.ts";
import { otherOwner } from "./run-owner.ts";
import { sendSignal } from "./send-signal.ts";
import { treeSignals } from "./signal-tree.ts";
import { openSpawner, type Spawner } from "./spawner.ts";

/** For so long a folder that cannot be read is read again, before anything is concluded from that. */
const UNREADABLE_FOR_MS = 300_000;

export interface LocalOptions {
  stateDir: string;
  /** The environment of the agent, of which a run sees a few variables. */
  env: Readonly<Record<string, string | undefined>>;
  /** Runs are started as this user; undefined for the agent's own. */
  runUser: RunUser | undefined;
  /** The path of the compiled wrapper; undefined for the shell's. */
  helper?: string | undefined;
  /** Where each run gets a cgroup; without one they get none. */
  cgroups?: CgroupRoot | NoCgroup;
  /** Limits of runs whose command has none of that kind. */
  defaultLimits?: RunLimits;
  spawner?: Spawner;
  passes?: ProcessPasses;
}

/** Runs commands on this host, each under a wrapper that outlives the agent, found again by its folder, its cgroup and /proc. */
export function localExecutor({
  stateDir,
  env,
  runUser,
  helper,
  cgroups = { path: undefined, why: "no place for them is set" },
  defaultLimits = {},
  spawner = openSpawner(),
  passes = processPasses(),
}: LocalOptions): Executor {
  const folderOf = (runId: string) => runFolder(stateDir, runId);
  const patience = createPatience(UNREADABLE_FOR_MS);
  const ownerOf = (runId: string) => otherOwner(folderOf(runId), runUser);
  const signals = treeSignals({
    passes,
    ownerOf,
    isApart: (runId) => isCommandApart(folderOf(runId)),
    send: async (owner, targets, signal) =>
      owner === undefined
        ? sendSignal(targets, signal)
        : spawner.sendSignalAs(owner, targets, signal).catch((cause: unknown) => {
            throw new ApiProblem(
              "host_unavailable",
              `${signal} could not be sent to all processes of the run now; send it again`,
              { retryAfterSeconds: 1, cause },
            );
          }),
  });
  const leaves = cgroupLeaves(cgroups, defaultLimits);
  const releasing = new Set<Promise<void>>();
  const ends = runEnds({ spawner, folderOf });
  return {
    leafOf: leaves.leafOf,

    async start({ runId, command, logPath, logLimit, cgroup }) {
      const problem = leaves.problem(command.limits);
      if (problem) throw problem;
      return leaves.startIn(cgroup, command.limits, async () =>
        spawner.startRun(command, {
          runId,
          folder: folderOf(runId),
          logPath,
          logLimit,
          helper,
          env: buildEnvironment(env, runId, command.env, runUser),
          runUser,
          cgroupProcs: cgroup === undefined ? undefined : entryOf(cgroup),
        }),
      );
    },

    async preview(command) {
      const built = buildEnvironment(env, "", command.env, runUser);
      const environment = Object.keys(built).toSorted();
      try {
        const argv = await previewArgv(command, { env: built, runUser });
        return { argv, environment, problem: leaves.problem(command.limits) };
      } catch (error) {
        return { argv: command.argv, environment, problem: launchProblem(error) };
      }
    },

    async recover(runId, launchedIn, cgroup) {
      try {
        return await recoverRun(runId, launchedIn, { folder: folderOf(runId), passes, cgroup });
      } catch (error) {
        if (unreadableCode(error) === undefined) throw error;
        // Once the patience is over it is taken for a run that may have been started.
        return patience.isOver(runId) ? { runId, launchedIn, cgroup, process: undefined } : "unreadable";
      }
    },
    look: (looks) => lookAt(looks, { stateDir, passes, patience, ownerOf }),
    ready: signals.ready,
    async signal(handle, signal) {
      const leaf = leafIn(handle);
      if (leaf === undefined) return signals.signal(handle, signal);
      return signalLeaf(leaf, signal, isWrapperOf(handle.process));
    },
    async kill(handle) {
      const leaf = leafIn(handle);
      await (leaf === undefined ? signals.kill(handle) : killLeaf(leaf, isWrapperOf(handle.process)));
    },
    watch: (runId, paths) => watchFiles([...paths, folderOf(runId).exit]),
    async release(cgroup, options) {
      const released = releaseLeaf(cgroup, options).finally(() => releasing.delete(released));
      releasing.add(released);
      await released;
    },
    sweep: async (endOf) => (cgroups.path === undefined ? undefined : sweepLeaves(cgroups.path, endOf)),
    ends,
    async forget(runId) {
      ends.unfollow(runId);
      await removeRunFolder(folderOf(runId));
    },
    warmUp: () => spawner.warmUp(),
    async close() {
      await Promise.allSettled(releasing);
      ends.close();
      await spawner.close();
    },
  };
}

/** The leaf of a run; undefined for a run without one, and for one whose leaf does not exist any more: it is found as one without. */
function leafIn({ cgroup }: Handle): string | undefined {
  return cgroup !== undefined && existsSync(cgroup) ? cgroup : undefined;
}
