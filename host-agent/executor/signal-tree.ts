import { sleep } from "../system/sleep.ts";

import { childrenOf, descendantsOf } from "./descendants.ts";
import type { Handle, Signal } from "./executor.ts";
import { currentBootId, hasEnded, type ProcessStat, readStat } from "./process-identity.ts";
import type { ProcessPasses } from "./process-passes.ts";
import { commandLine, type Tree } from "./process-tree.ts";
import type { Owner, Sent, SignalName, Target } from "./send-signal.ts";

/** SIGKILL is repeated this often, this far apart, in one call: processes may fork while we look. */
const KILL_ROUNDS = 20;
const KILL_ROUND_INTERVAL_MS = 15;
/** In these rounds the wrapper is spared, so that it can still write the exit code. */
const ROUNDS_WITHOUT_WRAPPER = 10;

/** How often to look for daemons that were being started: in the middle of execve(2) a process has no environment. */
const LATE_LOOKS = 2;

/** For how long, and how far apart, to look whether a wrapper has started its command. A look at a busy host may take long itself. */
const START_WAIT_MS = 1_000;
const START_LOOK_INTERVAL_MS = 5;

/** What became of a signal to a tree. */
interface Reach {
  /** There was something left of the run. */
  reached: boolean;
  /** At least one process of it may not be signalled by the user that sends. */
  refused: boolean;
}

/** What signals are sent with. */
export interface SignalDeps {
  passes: ProcessPasses;
  /** What is below a process, as `descendantsOf` finds it, and no walk. */
  below?(pid: number): ProcessStat[] | undefined;
  /** The user of a run; undefined for the agent's own. */
  ownerOf(runId: string): Owner | undefined;
  /** Whether the group of the run's wrapper is the run's machinery only, and its command leads another one. */
  isApart(runId: string): boolean;
  /** Sends a signal to each target, with the rights of the owner; undefined for the agent's. */
  send(owner: Owner | undefined, targets: readonly Target[], signal: SignalName): Promise<Sent[]>;
}

/**
 * The wrapper's pid as the leader of its process group and session; only
 * while the wrapper itself holds it, alive or as a zombie: then no other group
 * can have this id.
 */
export function leaderOf(handle: Handle): number | undefined {
  return wrapperOf(handle)?.pid;
}

/** The wrapper, alive or as a zombie. */
function wrapperOf({ process }: Handle): ProcessStat | undefined {
  if (process?.startTime === undefined || process.bootId !== currentBootId()) return undefined;
  const stat = readStat(process.pid);
  return stat?.startTime === process.startTime ? stat : undefined;
}

/** What tells the processes of this run from others, now. */
export function treeOf(handle: Handle, owner: Owner | undefined): Tree {
  const { startTime, bootId } = handle.process ?? {};
  const since = startTime !== undefined && bootId === currentBootId() ? Number(startTime) : Number.NaN;
  return {
    runId: handle.runId,
    leader: leaderOf(handle),
    // A start that could not be read is stored as a word.
    since: Number.isSafeInteger(since) ? since : undefined,
    uid: owner?.uid,
  };
}

/** Sends signals to the processes of runs, which are looked up each time. */
export function treeSignals(deps: SignalDeps) {
  async function killOnce(handle: Handle, { spareWrapper }: { spareWrapper: boolean }): Promise<Reach> {
    const owner = deps.ownerOf(handle.runId);
    const isSpared = ({ pid, pgrp }: ProcessStat, leader: number | undefined) =>
      spareWrapper && (pid === leader || (pgrp === leader && deps.isApart(handle.runId)));
    const found = nearOf(handle, deps);
    const near = found?.descendants.filter((stat) => !isSpared(stat, found.wrapper.pid)) ?? [];
    const sent = near.length === 0 ? [] : await deps.send(owner, near, "SIGKILL");
    const { leader, members } = await look(handle, owner, deps);
    // The pump as well: it ends by itself when nothing is left that writes to the log.
    const targets = members.filter((stat) => !isSpared(stat, leader));
    if (targets.length > 0) sent.push(...(await deps.send(owner, targets, "SIGKILL")));
    // Reaches also a run of which only the wrapper is left, and is spared.
    return { reached: near.length > 0 || members.length > 0, refused: sent.includes("refused") };
  }

  return {
    /**
     * Resolves when the wrapper has started the command, or is gone, or after
     * a while. A signal sent before would reach the wrapper alone: it outlives all
     * that it can, and then starts a command that never received the signal.
     */
    async ready(handle: Handle): Promise<void> {
      const giveUpAt = performance.now() + START_WAIT_MS;
      while (performance.now() < giveUpAt && (await isStarting(handle, deps))) {
        await sleep(START_LOOK_INTERVAL_MS);
      }
    },

    /** Sends a signal to every process of the run, once to each. SIGKILL spares the wrapper, which writes the exit code. */
    async signal(handle: Handle, signal: Signal): Promise<"sent" | "refused" | "gone"> {
      const { reached, refused } =
        signal === "SIGKILL"
          ? await killOnce(handle, { spareWrapper: true })
          : await signalTree(handle, signal, deps);
      if (!reached) return "gone";
      return refused ? "refused" : "sent";
    },

    /** SIGKILLs what is left of the run, again and again for a moment. */
    async kill(handle: Handle): Promise<void> {
      for (let round = 0; round < KILL_ROUNDS; round++) {
        const spareWrapper = round < ROUNDS_WITHOUT_WRAPPER;
        if (!(await killOnce(handle, { spareWrapper })).reached) return;
        await sleep(KILL_ROUND_INTERVAL_MS);
      }
    },
  };
}

async function look(handle: Handle, owner: Owner | undefined, { passes }: SignalDeps) {
  const list = await passes.take([treeOf(handle, owner)]);
  // Asked again after the walk: a leader that has gone meanwhile gives its id to others.
  const tree = treeOf(handle, owner);
  return { leader: tree.leader, members: list.of(tree) };
}

async function isStarting(handle: Handle, { passes }: SignalDeps): Promise<boolean> {
  const wrapper = wrapperOf(handle);
  if (!wrapper || hasEnded(wrapper)) return false;
  // A fork of the wrapper has the wrapper's command line until it becomes the command.
  const own = commandLine(wrapper.pid);
  const children =
    childrenOf(wrapper.pid) ?? (await passes.take([])).childrenOf(wrapper.pid).map(({ pid }) => pid);
  return children.every((pid) => commandLine(pid) === own);
}

/**
 * What is known of a run without a walk, while its wrapper is alive: its group, and what the wrapper has started. On a host
 * with thousands of processes a walk takes too long to wait for.
 */
function nearOf(
  handle: Handle,
  { below = descendantsOf }: SignalDeps,
): { wrapper: ProcessStat; descendants: ProcessStat[] } | undefined {
  const wrapper = wrapperOf(handle);
  if (!wrapper || hasEnded(wrapper)) return undefined;
  const descendants = below(wrapper.pid);
  return descendants && { wrapper, descendants };
}

/** Each process gets the signal once: programs take a second one for an order to drop everything. */
async function signalTree(handle: Handle, signal: SignalName, deps: SignalDeps): Promise<Reach> {
  const owner = deps.ownerOf(handle.runId);
  const near = nearOf(handle, deps);
  // All that is near is found before the first signal: what has lost its parent by it may be found by nothing else.
  const { leader, members } = near
    ? { leader: near.wrapper.pid, members: [near.wrapper, ...near.descendants] }
    : await look(handle, owner, deps);
  const leaders = groupLeaders(members, leader);
  const groups = new Set(leaders.map(({ pid }) => pid));
  const others = members.filter(({ pgrp }) => !groups.has(pgrp));
  const targets: Target[] = [...leaders.map(({ pid, startTime }) => ({ pid: -pid, startTime })), ...others];
  const sent = targets.length === 0 ? [] : await deps.send(owner, targets, signal);
  const signalled = new Set(others.map(({ pid }) => pid));
  const looks = near ? LATE_LOOKS + 1 : LATE_LOOKS;
  for (let late = 0; late < looks && targets.length > 0; late++) {
    const found = latecomers((await look(handle, owner, deps)).members, groups, signalled);
    if (found.length === 0) continue;
    targets.push(...found);
    sent.push(...(await deps.send(owner, found, signal)));
  }
  // A stopped process would receive the signal only once somebody lets it go on.
  if (targets.length > 0) await deps.send(owner, targets, "SIGCONT");
  return { reached: sent.some((each) => each !== "gone"), refused: sent.includes("refused") };
}

/** The leaders of the groups that get a signal as a whole, so that nothing is forked past it: the wrapper, and its command. */
function groupLeaders(members: readonly ProcessStat[], leader: number | undefined): ProcessStat[] {
  return members.filter(({ pid, pgrp, ppid }) => pid === pgrp && (pid === leader || ppid === leader));
}

/**
 * Daemons that were started, or left the group, between the look and the signal
 * to the group. What is in the group now received it there, or was started since, by
 * a process that cleans up.
 */
function latecomers(
  members: readonly ProcessStat[],
  groups: ReadonlySet<number>,
  signalled: Set<number>,
): ProcessStat[] {
  const found = members.filter(({ pid, pgrp }) => !signalled.has(pid) && !groups.has(pgrp));
  for (const { pid } of found) signalled.add(pid);
  return found;
}
