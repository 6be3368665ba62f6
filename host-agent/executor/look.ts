import { isUnableToLook, unreadableCode } from "../system/exhaustion.ts";
import { isPopulated } from "./cgroup-files.ts";
import { cgroupFacts } from "./cgroup-leaf.ts";
import type { Patience } from "../system/patience.ts";
import type { Ended, Handle, Look, Observation } from "./executor.ts";
import { currentBootId, isAlive } from "./process-identity.ts";
import type { ProcessPasses } from "./process-passes.ts";
import {
  type Exit,
  execErrorOf,
  isCommandMissing,
  isUntouched,
  readExit,
  type RunFolder,
  runFolder,
} from "./run-folder.ts";
import type { Owner } from "./send-signal.ts";
import { treeOf } from "./signal-tree.ts";

/** What runs are looked at with. */
export interface LookDeps {
  stateDir: string;
  passes: ProcessPasses;
  /** For exit codes that cannot be read. */
  patience: Patience;
  /** The user of a run; undefined for the agent's own. */
  ownerOf(runId: string): Owner | undefined;
}

/**
 * Looks at runs by their folders, their cgroups and /proc: all that it uses is outside this process, so any agent, at any
 * time, comes to the same answer. For runs without a cgroup the processes of the host are listed once for all of them, after every
 * wrapper was looked at: a list from before could lack what a wrapper has started since.
 */
export async function lookAt(looks: readonly Look[], deps: LookDeps): Promise<Observation[]> {
  const found = looks.map((look) => attempt(() => lookAtWrapper(look, deps)));
  // Without a leaf, or with one that does not exist any more.
  const unsure = looks.flatMap(({ handle }, i) =>
    "askTree" in found[i]! && found[i].isLeft === undefined ? [handle] : [],
  );
  const left = await whoIsLeft(unsure, deps);
  return found.map((each, i) => {
    if (!("askTree" in each)) return each;
    const isLeft = each.isLeft ?? left(looks[i]!.handle);
    return typeof isLeft === "boolean" ? lookAtTree(each, isLeft) : isLeft;
  });
}

type IsLeft = (handle: Handle) => boolean | { state: "unavailable"; cause: unknown };

/**
 * Whether anything of each run is left. Of those of which nothing was found a second list decides: a process that was
 * started during the first, by one that ended during it, may be missing there.
 */
async function whoIsLeft(handles: readonly Handle[], deps: LookDeps): Promise<IsLeft> {
  if (handles.length === 0) return () => false;
  try {
    const first = await membersOf(handles, deps);
    const gone = handles.filter((handle) => !first(handle));
    const second = gone.length === 0 ? first : await membersOf(gone, deps);
    return (handle) => first(handle) || second(handle);
  } catch (cause) {
    if (!isUnableToLook(cause)) throw cause;
    return () => ({ state: "unavailable", cause });
  }
}

async function membersOf(
  handles: readonly Handle[],
  { passes, ownerOf }: LookDeps,
): Promise<(handle: Handle) => boolean> {
  const treesOf = () => handles.map((handle) => treeOf(handle, ownerOf(handle.runId)));
  const list = await passes.take(treesOf());
  // Asked again after the walk: a leader that has gone meanwhile gives its id to others.
  const left = new Set(treesOf().flatMap((tree) => (list.of(tree).length > 0 ? [tree.runId] : [])));
  return ({ runId }) => left.has(runId);
}

/** A run whose wrapper is over: what it is depends on whether anything of its tree is left. */
interface WithoutWrapper {
  askTree: true;
  /** What its cgroup says; undefined where only a list of the processes can tell. */
  isLeft: boolean | undefined;
  ended: Ended;
}

function lookAtWrapper(
  { handle, wholeTree }: Look,
  { stateDir, patience }: LookDeps,
): Observation | WithoutWrapper {
  const folder = runFolder(stateDir, handle.runId);
  if (exitOf(folder).exit?.isOver !== true && isWrapperAlive(handle)) return { state: "running" };
  // Read again, for the wrapper may have written it and ended in between.
  const { exit, unreadable } = exitOf(folder);
  if (unreadable === undefined) patience.clear(handle.runId);
  else if (!patience.isOver(handle.runId)) return { state: "unreadable", errno: unreadable };
  const isOfThisBoot = (handle.process?.bootId ?? handle.launchedIn) === currentBootId();
  // After a loss of power the folder proves nothing: what was written to it may not be on the disk.
  const mayProveNoStart = unreadable === undefined && isOfThisBoot;
  const isProof = (of: RunFolder) => (exit === undefined && isUntouched(of)) || isCommandMissing(of);
  const ended: Ended = {
    state: "ended",
    exitCode: exit?.code,
    unreadable,
    at: exit?.at,
    rebooted: !isOfThisBoot,
    commandStarted: !(mayProveNoStart && isKnown(isProof, folder)),
    ...(CODES_OF_NO_EXEC.has(exit?.code) && execErrorIn(folder)),
  };
  if (exit !== undefined && !wholeTree) return withFacts(ended, handle);
  const isLeft = handle.cgroup === undefined ? undefined : isPopulated(handle.cgroup);
  return { askTree: true, isLeft, ended: isLeft === false ? withFacts(ended, handle) : ended };
}

function withFacts(ended: Ended, { cgroup, process }: Handle): Ended {
  return cgroup === undefined ? ended : { ...ended, cgroup: cgroupFacts(cgroup, process) };
}

/** What a shell exits with for a program that it cannot execute. */
const CODES_OF_NO_EXEC = new Set<number | undefined>([126, 127]);

function execErrorIn(folder: RunFolder): { execError?: string } {
  try {
    const execError = execErrorOf(folder);
    return execError === undefined ? {} : { execError };
  } catch (error) {
    if (unreadableCode(error) === undefined) throw error;
    return {};
  }
}

/** False as well while `started` cannot be read: that proves nothing. */
function isKnown(isProof: (folder: RunFolder) => boolean, folder: RunFolder): boolean {
  try {
    return isProof(folder);
  } catch (error) {
    if (unreadableCode(error) === undefined) throw error;
    return false;
  }
}

/** The exit code, or the errno that hides whether there is one. */
function exitOf(folder: RunFolder): { exit: Exit | undefined; unreadable: string | undefined } {
  try {
    return { exit: readExit(folder), unreadable: undefined };
  } catch (error) {
    const unreadable = unreadableCode(error);
    if (unreadable === undefined) throw error;
    return { exit: undefined, unreadable };
  }
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
