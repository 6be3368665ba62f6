import { ApiProblem } from "../protocol/problem.ts";
import { watchForChange } from "../logs/log-wait.ts";
import { unreadableCode } from "../system/exhaustion.ts";
import { createPatience } from "../system/patience.ts";
import { launchProblem, previewArgv } from "./command.ts";
import { buildEnvironment } from "./environment.ts";
import type { Executor } from "./executor.ts";
import { lookAt } from "./look.ts";
import { type ProcessPasses, processPasses } from "./process-passes.ts";
import { recoverRun } from "./recover.ts";
import type { RunUser } from "./run-as.ts";
import { removeRunFolder, runFolder } from "./run-folder.ts";
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
  spawner?: Spawner;
  passes?: ProcessPasses;
}

/** Runs commands on this host, each under a wrapper that outlives the agent, found again by its folder and /proc. */
export function localExecutor({
  stateDir,
  env,
  runUser,
  spawner = openSpawner(),
  passes = processPasses(),
}: LocalOptions): Executor {
  const folderOf = (runId: string) => runFolder(stateDir, runId);
  const patience = createPatience(UNREADABLE_FOR_MS);
  const ownerOf = (runId: string) => otherOwner(folderOf(runId), runUser);
  const signals = treeSignals({
    passes,
    ownerOf,
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
  const ends = runEnds({ spawner, folderOf });
  return {
    start: async ({ runId, command, logPath }) =>
      spawner.startRun(command, {
        folder: folderOf(runId),
        logPath,
        env: buildEnvironment(env, runId, command.env, runUser),
        runUser,
      }),

    async preview(command) {
      const built = buildEnvironment(env, "", command.env, runUser);
      const environment = Object.keys(built).toSorted();
      try {
        const argv = await previewArgv(command, { env: built, runUser });
        return { argv, environment, problem: undefined };
      } catch (error) {
        return { argv: command.argv, environment, problem: launchProblem(error) };
      }
    },

    async recover(runId, launchedIn) {
      try {
        return await recoverRun(runId, launchedIn, { folder: folderOf(runId), passes });
      } catch (error) {
        if (unreadableCode(error) === undefined) throw error;
        // Once the patience is over it is taken for a run that may have been started.
        return patience.isOver(runId) ? { runId, launchedIn, process: undefined } : "unreadable";
      }
    },
    look: (looks) => lookAt(looks, { stateDir, passes, patience, ownerOf }),
    ...signals,
    // Its folder, and not its log: only an exit code says that there is something to see.
    watch: (runId, paths, signal) => watchForChange([...paths, folderOf(runId).path], signal),
    ends,
    forget(runId) {
      ends.unfollow(runId);
      removeRunFolder(folderOf(runId));
    },
    warmUp: () => spawner.warmUp(),
    async close() {
      ends.close();
      await spawner.close();
    },
  };
}
