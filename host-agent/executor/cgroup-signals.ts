import { sleep } from "../system/sleep.ts";
import { isPopulated, readCounter, withDescendants, writeCgroupFile } from "./cgroup-files.ts";
import { leafMembers } from "./cgroup-leaf.ts";
import type { Signal } from "./executor.ts";
import type { ProcessStat } from "./process-identity.ts";
import { type Sent, sendSignal } from "./send-signal.ts";

/** For so long the processes of a leaf get to freeze: one in an uninterruptible call of the kernel takes longer. */
const FREEZE_WAIT_MS = 200;
const LOOK_INTERVAL_MS = 2;
/** SIGKILL is sent this often, this far apart, before the wrapper is killed too. */
const ROUNDS_WITHOUT_WRAPPER = 10;
const ROUND_INTERVAL_MS = 15;
/** After `cgroup.kill`, for so long processes get to end: the kernel frees the memory of each. */
const KILL_WAIT_MS = 500;

/** The wrapper of the run, among its processes. */
export type IsWrapper = (stat: ProcessStat) => boolean;

/**
 * Sends a signal to every process of a leaf, once to each; SIGKILL not to the wrapper, which writes the exit code. The leaf is
 * frozen meanwhile: no process can start another one that the signal misses, and no pid can pass to another process. With the
 * rights of this process: what is in the leaf is the run's, as the kernel sees it.
 */
export async function signalLeaf(
  leaf: string,
  signal: Signal,
  isWrapper: IsWrapper,
): Promise<"sent" | "refused" | "gone"> {
  return whileFrozen(leaf, () => {
    const members = leafMembers(leaf);
    if (members.length === 0) return "gone";
    const targets = signal === "SIGKILL" ? members.filter((stat) => !isWrapper(stat)) : members;
    const sent: Sent[] = sendSignal(targets, signal);
    // A stopped process would receive the signal only once somebody lets it go on.
    if (signal !== "SIGKILL") sendSignal(targets, "SIGCONT");
    return sent.includes("refused") ? "refused" : "sent";
  });
}

/**
 * SIGKILLs what is left in a leaf: first all but the wrapper, which writes the exit code and ends; then, by `cgroup.kill`, the
 * rest, which nothing escapes: not a process that forks meanwhile, nor one of another user.
 */
export async function killLeaf(leaf: string, isWrapper: IsWrapper): Promise<void> {
  for (let round = 0; round < ROUNDS_WITHOUT_WRAPPER; round++) {
    const members = leafMembers(leaf);
    if (members.length === 0) return;
    // A wrapper that is alone is left to write the exit code: to freeze it would only delay that.
    if (!members.every(isWrapper)) await signalLeaf(leaf, "SIGKILL", isWrapper);
    await sleep(ROUND_INTERVAL_MS);
  }
  killAll(leaf);
  await waitUntil(() => !isPopulated(leaf), KILL_WAIT_MS);
}

/** SIGKILLs every process in a leaf, the wrapper too, and returns at once. */
export function killAll(leaf: string): void {
  ignoreGone(() => writeCgroupFile(leaf, "cgroup.kill", "1"));
}

/**
 * Runs `work` while no process of the leaf runs, or while as many as can be frozen are. Afterwards all go on, also those that were
 * frozen before: a frozen process does not react to a signal.
 */
async function whileFrozen<T>(leaf: string, work: () => T): Promise<T> {
  ignoreGone(() => writeCgroupFile(leaf, "cgroup.freeze", "1"));
  try {
    await waitUntil(() => readCounter(leaf, "cgroup.events", "frozen") !== 0, FREEZE_WAIT_MS);
    return work();
  } finally {
    for (const cgroup of withDescendants(leaf)) {
      ignoreGone(() => writeCgroupFile(cgroup, "cgroup.freeze", "0"));
    }
  }
}

async function waitUntil(isMet: () => boolean, withinMs: number): Promise<void> {
  const until = performance.now() + withinMs;
  while (!isMet() && performance.now() < until) await sleep(LOOK_INTERVAL_MS);
}

function ignoreGone(write: () => void): void {
  try {
    write();
  } catch (error) {
    if (!["ENOENT", "ENODEV"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
}
