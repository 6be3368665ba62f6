import { isUnableToLook } from "../system/exhaustion.ts";
import type { Ended, Handle, Look, Observation } from "./executor.ts";
import { currentBootId, isAlive } from "./process-identity.ts";
import { listProcesses, type ProcessList } from "./process-tree.ts";
import { isUntouched, readExit, runFolder } from "./run-folder.ts";
import { leaderOf } from "./signal-tree.ts";

/**
 * Looks at runs by their folders and by /proc: all that it uses is outside this process, so any agent, at any
 * time, comes to the same answer. The processes of the host are listed at most once, after every wrapper was looked
 * at: a list from before could lack what a wrapper has started since.
 */
export function lookAt(looks: readonly Look[], stateDir: string): Observation[] {
  const first = looks.map((look) => attempt(() => lookAtWrapper(look, stateDir)));
  let list: ProcessList | undefined;
  return first.map((found, i) => {
    if (!("askTree" in found)) return found;
    return attempt(() => {
      list ??= listProcesses();
      const { handle } = looks[i]!;
      return lookAtTree(found, list.of(handle.runId, leaderOf(handle)).length > 0);
    });
  });
}

/** A run whose wrapper is over: what it is depends on whether anything of its tree is left. */
interface WithoutWrapper {
  askTree: true;
  ended: Ended;
}

function lookAtWrapper({ handle, wholeTree }: Look, stateDir: string): Observation | WithoutWrapper {
  const folder = runFolder(stateDir, handle.runId);
  if (readExit(folder) === undefined && isWrapperAlive(handle)) return { state: "running" };
  // Read again, for the wrapper may have written it and ended in between.
  const exit = readExit(folder);
  const isOfThisBoot = (handle.process?.bootId ?? handle.launchedIn) === currentBootId();
  const ended: Ended = {
    state: "ended",
    exitCode: exit?.code,
    at: exit?.at,
    rebooted: !isOfThisBoot,
    // After a loss of power the folder proves nothing: what was written to it may not be on the disk.
    commandStarted: exit !== undefined || !isOfThisBoot || !isUntouched(folder),
  };
  return exit === undefined || wholeTree ? { askTree: true, ended } : ended;
}

function lookAtTree({ ended }: WithoutWrapper, isLeft: boolean): Observation {
  if (!isLeft) return ended;
  return { state: ended.exitCode === undefined ? "orphaned" : "lingering" };
}

function isWrapperAlive({ process }: Handle): boolean {
  if (process?.startTime === undefined || process.bootId === undefined) return false;
  const { pid, startTime, bootId } = process;
  return isAlive({ pid, startTime, bootId });
}

function attempt<T>(look: () => T): T | { state: "unavailable"; cause: unknown } {
  try {
    return look();
  } catch (cause) {
    if (!isUnableToLook(cause)) throw cause;
    return { state: "unavailable", cause };
  }
}
