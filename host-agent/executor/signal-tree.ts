import { sleep } from "../system/sleep.ts";

import type { Handle, Signal } from "./executor.ts";
import { currentBootId, type ProcessStat, readStat } from "./process-identity.ts";
import { commandLine, processesOf } from "./process-tree.ts";

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
  /** At least one process of it may not be signalled by this user. */
  refused: boolean;
}

/**
 * The wrapper's pid as the leader of the run's process group and session; only
 * while the wrapper itself holds it, alive or as a zombie: then no other group
 * can have this id.
 */
export function leaderOf({ process }: Handle): number | undefined {
  if (process?.startTime === undefined || process.bootId !== currentBootId()) return undefined;
  return readStat(process.pid)?.startTime === process.startTime ? process.pid : undefined;
}

/**
 * Resolves when the wrapper has started the command, or is gone, or after
 * a while. A signal sent before would reach the wrapper alone: it outlives all
 * that it can, and then starts a command that never received the signal.
 */
export async function commandStarted(handle: Handle): Promise<void> {
  const giveUpAt = performance.now() + START_WAIT_MS;
  while (performance.now() < giveUpAt && isStarting(handle)) await sleep(START_LOOK_INTERVAL_MS);
}

function isStarting(handle: Handle): boolean {
  const leader = leaderOf(handle);
  if (leader === undefined) return false;
  const members = processesOf(handle.runId, leader);
  if (members.every(({ pid }) => pid !== leader)) return false;
  // A fork of the wrapper has the wrapper's command line until it becomes the command.
  const own = commandLine(leader);
  return members.every(({ pid, ppid }) => ppid !== leader || commandLine(pid) === own);
}

/** Sends a signal to every process of the run, once to each. SIGKILL spares the wrapper, which writes the exit code. */
export function signalRun(handle: Handle, signal: Signal): "sent" | "refused" | "gone" {
  const { reached, refused } =
    signal === "SIGKILL" ? killOnce(handle, { spareWrapper: true }) : signalTree(handle, signal);
  if (!reached) return "gone";
  return refused ? "refused" : "sent";
}

/** SIGKILLs what is left of the run, again and again for a moment. */
export async function killTree(handle: Handle): Promise<void> {
  for (let round = 0; round < KILL_ROUNDS; round++) {
    const spareWrapper = round < ROUNDS_WITHOUT_WRAPPER;
    if (!killOnce(handle, { spareWrapper }).reached) return;
    await sleep(KILL_ROUND_INTERVAL_MS);
  }
}

/** Each process gets the signal once: programs take a second one for an order to drop everything. */
function signalTree(handle: Handle, signal: NodeJS.Signals): Reach {
  const leader = leaderOf(handle);
  const members = processesOf(handle.runId, leader);
  const others = members
    .filter((stat) => leader === undefined || stat.pgrp !== leader)
    .map((stat) => stat.pid);
  const targets = leader === undefined || others.length === members.length ? others : [-leader, ...others];
  const sent = targets.map((target) => send(target, signal));
  const signalled = new Set(others);
  for (let look = 0; look < LATE_LOOKS; look++) {
    for (const { pid } of latecomers(handle, leader, signalled)) {
      signalled.add(pid);
      targets.push(pid);
      sent.push(send(pid, signal));
    }
  }
  // A stopped process would receive the signal only once somebody lets it go on.
  for (const target of targets) send(target, "SIGCONT");
  return { reached: sent.some((each) => each !== "gone"), refused: sent.includes("refused") };
}

/**
 * Daemons that were started, or left the group, between the look and the signal
 * to the group. What is in the group now received it there, or was started since, by
 * a process that cleans up.
 */
function latecomers(
  { runId }: Handle,
  leader: number | undefined,
  signalled: ReadonlySet<number>,
): ProcessStat[] {
  return processesOf(runId, leader).filter(({ pid, pgrp }) => !signalled.has(pid) && pgrp !== leader);
}

/** Reaches also a run of which only the wrapper is left, and is spared. */
function killOnce(handle: Handle, { spareWrapper }: { spareWrapper: boolean }): Reach {
  const leader = leaderOf(handle);
  const members = processesOf(handle.runId, leader);
  const sent = members
    .filter(({ pid }) => pid !== leader || !spareWrapper)
    .map(({ pid }) => send(pid, "SIGKILL"));
  return { reached: members.length > 0, refused: sent.includes("refused") };
}

/** A process of another user, as sudo(8) makes one, refuses: that is no reason to spare the others. */
function send(target: number, signal: NodeJS.Signals): "sent" | "gone" | "refused" {
  try {
    process.kill(target, signal);
    return "sent";
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ESRCH") return "gone";
    if (code === "EPERM") return "refused";
    throw error;
  }
}
