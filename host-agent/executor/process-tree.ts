import { closeSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";
import { uptime } from "node:os";

import { isUnableToLook } from "../system/exhaustion.ts";
import { statsOf } from "../system/file-version.ts";
import { hasEnded, type ProcessStat, readStat } from "./process-identity.ts";
import { belongsTo } from "./process-owner.ts";
import { markedRunOf } from "./run-mark.ts";

/** The name of the environment variable that every process of a run inherits. */
export const RUN_ID_VARIABLE = "HUB_RUN_ID";

/** What tells the processes of a run from all others. */
export interface Tree {
  runId: string;
  /** The wrapper's pid, if it is known to be the run's own. */
  leader: number | undefined;
  /** The start time of the wrapper, in ticks since boot: no process of the run is older. Undefined when it is unknown. */
  since: number | undefined;
  /** The id in an environment counts only for processes of this user; undefined for those of any. */
  uid: number | undefined;
}

/** The processes of the host at one moment. */
export interface ProcessList {
  /**
   * Every living process of a run: the process group and session of its wrapper, all that have the run's id in their environment (that
   * finds setsid'ed daemons) or its mark, and all descendants of these and members of the sessions and groups that they lead; none
   * that is older than the run.
   */
  of(tree: Tree): ProcessStat[];
  childrenOf(pid: number): ProcessStat[];
}

/** The start times of the processes that were found to belong to a run, by run and pid. */
export type Seen = Map<string, Map<number, string>>;
/** The unit of start times (proc_pid_stat(5)): USER_HZ, which is 100 on every Linux that Node runs on. */
const TICKS_A_SECOND = 100;
/** A fork has become its program long before that. */
const FORKED_FOR_SECONDS = 10;

/** Processes that an earlier walk has found to name no run, in their environment or by a mark. */
export interface Strangers {
  /** True when this process need not be asked again. */
  has(stat: ProcessStat): boolean;
  add(stat: ProcessStat): void;
  /** Forgets all but the processes that a walk has found. */
  keep(all: readonly ProcessStat[]): void;
}

/**
 * An environment is fixed when a program starts, and what a run starts inherits its id and its mark. So a process that has an
 * environment without one, and no mark, stays a stranger as long as it lives: it is known by pid and start time. One that has just been forked still
 * has the environment of its parent, and is asked again.
 */
export function createStrangers(): Strangers {
  let known = new Map<number, string>();
  return {
    has: ({ pid, startTime }) => known.get(pid) === startTime,
    add({ pid, startTime }) {
      const age = uptime() - Number(startTime) / TICKS_A_SECOND;
      if (age > FORKED_FOR_SECONDS) known.set(pid, startTime);
    },
    keep(all) {
      const kept = new Map<number, string>();
      for (const { pid, startTime } of all) if (known.get(pid) === startTime) kept.set(pid, startTime);
      known = kept;
    },
  };
}

/** What walks remember for the next one. */
export interface WalkMemory {
  seen: Seen;
  strangers: Strangers;
}

export function createWalkMemory(): WalkMemory {
  return { seen: new Map(), strangers: createStrangers() };
}

/**
 * Lists the living processes, except this one, for questions about `trees` only: the environments of processes that can
 * belong to none of them are not read. What was in `seen` still belongs to its run; what is
 * found is added there, and what has ended removed. Pauses after each process, so that a caller can let others work.
 */
export function* walkProcesses(
  trees: readonly Tree[],
  { seen, strangers }: WalkMemory = createWalkMemory(),
): Generator<void, ProcessList> {
  const all: ProcessStat[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = readStat(Number(name));
    if (stat && !hasEnded(stat) && stat.pid !== process.pid) all.push(stat);
    yield;
  }
  const byRunId = new Map<string, ProcessStat[]>();
  const wanted = new Set(trees.map(({ runId }) => runId));
  const mayBelong = candidates(trees);
  strangers.keep(all);
  for (const stat of all) {
    if (strangers.has(stat) || !mayBelong(stat)) continue;
    const { runIds, isEmpty } = claimsOf(stat.pid, wanted);
    // In the middle of execve(2) a process has no environment, and a run's has an id right after that.
    if (runIds.length === 0 && !isEmpty) strangers.add(stat);
    for (const runId of runIds) {
      const members = byRunId.get(runId);
      if (members) members.push(stat);
      else byRunId.set(runId, [stat]);
    }
    yield;
  }
  forgetEnded(seen, all);
  return {
    of(tree) {
      const members = membersOf(tree, all, {
        claimants: byRunId.get(tree.runId) ?? [],
        known: seen.get(tree.runId),
      });
      if (members.length > 0) {
        seen.set(tree.runId, new Map(members.map(({ pid, startTime }) => [pid, startTime])));
      }
      return members;
    },
    childrenOf: (pid) => all.filter(({ ppid }) => ppid === pid),
  };
}

/** Every living process of a run now, whatever its age and user, in one go: this blocks the event loop. */
export function processesOf(runId: string, leader?: number): ProcessStat[] {
  const tree = { runId, leader, since: undefined, uid: undefined };
  const walk = walkProcesses([tree]);
  for (;;) {
    const { done, value } = walk.next();
    if (done) return value.of(tree);
  }
}

function membersOf(
  { leader, since, uid }: Tree,
  all: readonly ProcessStat[],
  { claimants, known }: { claimants: readonly ProcessStat[]; known: ReadonlyMap<number, string> | undefined },
): ProcessStat[] {
  const young = since === undefined ? all : all.filter((stat) => !isOlder(stat, since));
  const members = new Map<number, ProcessStat>();
  for (const stat of claimants) {
    if (since !== undefined && isOlder(stat, since)) continue;
    if (uid === undefined || belongsTo(stat.pid, uid)) members.set(stat.pid, stat);
  }
  for (const stat of known ? young : []) {
    if (known!.get(stat.pid) === stat.startTime) members.set(stat.pid, stat);
  }
  if (leader !== undefined) {
    for (const stat of young) {
      if (stat.pgrp === leader || stat.session === leader) members.set(stat.pid, stat);
    }
  }
  addDescendants(members, young);
  return [...members.values()];
}

function forgetEnded(seen: Seen, all: readonly ProcessStat[]): void {
  if (seen.size === 0) return;
  const startOf = new Map(all.map(({ pid, startTime }) => [pid, startTime]));
  for (const [runId, members] of seen) {
    for (const [pid, startTime] of members) if (startOf.get(pid) !== startTime) members.delete(pid);
    if (members.size === 0) seen.delete(runId);
  }
}

function isOlder({ startTime }: ProcessStat, since: number): boolean {
  return Number(startTime) < since;
}

/** Whether the environment of a process can matter to one of the trees. */
function candidates(trees: readonly Tree[]): (stat: ProcessStat) => boolean {
  const since = trees.some((tree) => tree.since === undefined)
    ? 0
    : Math.min(...trees.map((tree) => tree.since!));
  const uids = new Set(trees.map(({ uid }) => uid));
  return (stat) => !isOlder(stat, since) && (uids.has(undefined) || mayHaveUser(stat.pid, uids));
}

/** True as well for a process of which /proc hides the user, as of one that changed it: root owns its folder (proc(5)). */
function mayHaveUser(pid: number, uids: ReadonlySet<number | undefined>): boolean {
  const owner = statsOf(`/proc/${pid}`)?.uid;
  if (owner !== 0) return uids.has(owner);
  return [...uids].some((uid) => belongsTo(pid, uid!));
}

/**
 * So much of an environment is searched. A run can make each of its processes one of megabytes, and the kernel copies it
 * page by page.
 */
const MAX_ENVIRONMENT_BYTES = 262_144;
const environment = Buffer.alloc(MAX_ENVIRONMENT_BYTES + 1);
const RUN_ID_ENTRY = `\0${RUN_ID_VARIABLE}=`;

/** The runs that the process belongs to by its environment, or else by its mark: a process can write to its environment. */
function claimsOf(pid: number, wanted: ReadonlySet<string>): { runIds: string[]; isEmpty: boolean } {
  const { runIds, isEmpty } = runIdsOf(pid);
  if (runIds.some((id) => wanted.has(id))) return { runIds, isEmpty };
  const marked = markedRunOf(pid);
  return { runIds: marked === undefined ? runIds : [...runIds, marked], isEmpty };
}

/** The ids of runs in the environment that the process was started with (proc_pid_environ(5)): none or one, unless it is forged. */
function runIdsOf(pid: number): { runIds: string[]; isEmpty: boolean } {
  const ids: string[] = [];
  const bytes = readEnvironment(pid);
  for (let at = bytes.indexOf(RUN_ID_ENTRY); at >= 0; at = bytes.indexOf(RUN_ID_ENTRY, at + 1)) {
    const start = at + RUN_ID_ENTRY.length;
    const end = bytes.indexOf(0, start);
    if (end >= 0) ids.push(bytes.toString("latin1", start, end));
  }
  return { runIds: ids, isEmpty: bytes.length === 1 };
}

/** True when the environment that the process was started with holds exactly this entry (proc_pid_environ(5)). */
export function hasEnvironmentEntry(pid: number, entry: string): boolean {
  return readEnvironment(pid).includes(`\0${entry}\0`);
}

/**
 * The beginning of an environment behind a NUL, in a buffer that the next call uses again; empty but for the NUL for a
 * process that is gone, and for one that may not be read. Throws when it cannot be looked at now.
 */
function readEnvironment(pid: number): Buffer {
  environment[0] = 0;
  let length = 1;
  try {
    const fd = openSync(`/proc/${pid}/environ`, "r");
    try {
      for (let read = 1; read > 0 && length < environment.length; length += read) {
        read = readSync(fd, environment, length, environment.length - length, null);
      }
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (isUnableToLook(error)) throw error;
  }
  return environment.subarray(0, length);
}

/** The words of a process, each with a NUL behind it (proc_pid_cmdline(5)); "" when it is gone. */
export function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1");
  } catch {
    return "";
  }
}

function addDescendants(members: Map<number, ProcessStat>, all: readonly ProcessStat[]): void {
  let grew = members.size > 0;
  while (grew) {
    grew = false;
    for (const stat of all) {
      if (!members.has(stat.pid) && (members.has(stat.ppid) || isLedBy(stat, members))) {
        members.set(stat.pid, stat);
        grew = true;
      }
    }
  }
}

/** Whether a living member leads the session or the group of the process. Their ids are not given again while that lives. */
function isLedBy({ session, pgrp }: ProcessStat, members: ReadonlyMap<number, ProcessStat>): boolean {
  return members.get(session)?.session === session || members.get(pgrp)?.pgrp === pgrp;
}
