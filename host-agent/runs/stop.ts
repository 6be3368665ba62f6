import { setTimeout as sleep } from "node:timers/promises";

import type { ProcessStat } from "../executor/process-identity.ts";
import { commandLine, processesOf } from "../executor/process-tree.ts";
import type { RunStore, StoredRun } from "../store/run-store.ts";
import { leaderOf } from "./reconcile.ts";

/** A run that is over its time, or its log's size, gets so long to end by itself before SIGKILL. */
export const LIMIT_GRACE_MS = 10_000;
/** SIGKILL is repeated so often, so far apart, at one go: processes may fork while we look. */
const KILL_ROUNDS = 20;
const KILL_ROUND_INTERVAL_MS = 15;
/** In these rounds the wrapper is spared, so that it can still write the exit code. */
const ROUNDS_WITHOUT_WRAPPER = 10;

/** How often to look for daemons that were being started: in the middle of execve(2) a process has no environment. */
const LATE_LOOKS = 2;

/** How often, and how far apart, to look whether a wrapper has started its command: a moment, if the host is not overloaded. */
const START_LOOKS = 200;
const START_LOOK_INTERVAL_MS = 5;

export interface StopOrder {
  cause: "kill" | "timeout" | "log_limit";
  signal: "SIGTERM" | "SIGINT" | "SIGKILL";
  keyName: string | null;
  /** When SIGKILL follows, in epoch milliseconds; null for never. */
  deadline: number | null;
}

/**
 * Sends the signal to the whole tree of a live run and records that. The intent
 * is recorded first, so that after a crash in between the signal is sent again
 * and not forgotten. Of orders that come at the same time, to one agent or to
 * several on one state folder, the first is sent, and of the others SIGKILL. Returns the run; unchanged but for the intent when nothing was left to signal.
 */
export function stopRun(store: RunStore, run: StoredRun, order: StopOrder): StoredRun {
  const intended = store.exclusively(() => {
    const current = store.get(run.run_id) ?? run;
    const { cause, signal, deadline } = order;
    // A limit is no reason to take back what somebody has ordered since it was looked at.
    if (current.stop_cause !== null && cause !== "kill") return current;
    // A kill on top of a kill only says when SIGKILL follows: the signal itself is sent once.
    if (current.stop_cause === "kill" && signal !== "SIGKILL") {
      const saysWhen = deadline !== null && current.stop_deadline === null;
      return saysWhen ? store.update(run.run_id, { stop_deadline: deadline }) : current;
    }
    return store.update(run.run_id, {
      stop_cause: cause,
      stop_signal: signal,
      stop_key_name: order.keyName,
      stop_deadline: signal === "SIGKILL" ? 0 : deadline,
      // What was sent for another reason, or another signal; before SIGKILL it does not matter.
      ...(signal !== "SIGKILL" && { stop_sent: 0 }),
    });
  });
  return deliver(store, intended);
}

/** Sends the signal that was recorded for this run, unless an agent has by now, and records that it was sent. */
export function deliver(store: RunStore, run: StoredRun): StoredRun {
  // No other agent sends it, or records that it has, meanwhile.
  return store.exclusively(() => {
    const current = store.get(run.run_id) ?? run;
    if (current.ended_at !== null || wasSent(current)) return current;
    const signal = current.stop_signal as NodeJS.Signals;
    const { reached, refused } =
      signal === "SIGKILL" ? killOnce(current, { spareWrapper: true }) : signalTree(current, signal);
    if (!reached) return current;
    const by = {
      kill: `/kill by ${current.stop_key_name}`,
      timeout: "Over its time limit: the host-agent",
      log_limit: "Over the limit of its log: the host-agent",
    }[current.stop_cause!];
    return store.update(run.run_id, {
      stop_sent: 1,
      status_reason: `${by} sent ${signal}; ${refused ? REFUSED : "not all of its processes have ended yet"}.`,
      ...(current.stop_cause === "kill" && { status: "killed" }),
    });
  });
}

/** SIGKILL may be sent any number of times: nothing of a run sees it twice. */
function wasSent({ stop_sent, stop_signal }: StoredRun): boolean {
  return stop_sent === 1 && stop_signal !== "SIGKILL";
}

const REFUSED =
  "at least one of its processes belongs to another user, whom the host-agent may not signal, and goes on";

/** What became of a signal to a tree. */
interface Reach {
  /** There was something left of the run. */
  reached: boolean;
  /** Something of it may not be signalled by this user. */
  refused: boolean;
}

/**
 * Resolves when the wrapper has handed over to the command, or is gone, or after
 * a while. A signal sent before would reach the wrapper alone: it outlives all
 * that it can, and then starts a command that never saw the signal.
 */
export async function commandStarted(run: StoredRun): Promise<void> {
  for (let looks = 0; looks < START_LOOKS && isStarting(run); looks++) await sleep(START_LOOK_INTERVAL_MS);
}

function isStarting(run: StoredRun): boolean {
  const leader = leaderOf(run);
  if (leader === undefined) return false;
  const members = processesOf(run.run_id, leader);
  if (members.every(({ pid }) => pid !== leader)) return false;
  // A fork of the wrapper bears its command line until it becomes the command.
  const own = commandLine(leader);
  return members.every(({ pid, ppid }) => ppid !== leader || commandLine(pid) === own);
}

/** SIGKILLs what is left of the run, again and again for a moment. */
export async function killTree(run: StoredRun): Promise<void> {
  for (let round = 0; round < KILL_ROUNDS; round++) {
    const spareWrapper = round < ROUNDS_WITHOUT_WRAPPER;
    if (!killOnce(run, { spareWrapper }).reached) return;
    await sleep(KILL_ROUND_INTERVAL_MS);
  }
}

/** Each process gets the signal once: programs take a second one for an order to drop everything. */
function signalTree(run: StoredRun, signal: NodeJS.Signals): Reach {
  const leader = leaderOf(run);
  const members = processesOf(run.run_id, leader);
  const others = members
    .filter((stat) => leader === undefined || stat.pgrp !== leader)
    .map((stat) => stat.pid);
  const targets = leader === undefined || others.length === members.length ? others : [-leader, ...others];
  const sent = targets.map((target) => send(target, signal));
  const signalled = new Set(others);
  for (let look = 0; look < LATE_LOOKS; look++) {
    for (const { pid } of latecomers(run, leader, signalled)) {
      signalled.add(pid);
      targets.push(pid);
      sent.push(send(pid, signal));
    }
  }
  // A stopped process would only see the signal once somebody lets it go on.
  for (const target of targets) send(target, "SIGCONT");
  return { reached: sent.some((each) => each !== "gone"), refused: sent.includes("refused") };
}

/**
 * Daemons that were started, or left the group, between the look and the signal
 * to the group. Who is in the group now got it there, or was started since, by
 * somebody who cleans up.
 */
function latecomers(
  run: StoredRun,
  leader: number | undefined,
  signalled: ReadonlySet<number>,
): ProcessStat[] {
  return processesOf(run.run_id, leader).filter(({ pid, pgrp }) => !signalled.has(pid) && pgrp !== leader);
}

/** Reaches also a run of which only the wrapper is left, and is spared. */
function killOnce(run: StoredRun, { spareWrapper }: { spareWrapper: boolean }): Reach {
  const leader = leaderOf(run);
  const members = processesOf(run.run_id, leader);
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
