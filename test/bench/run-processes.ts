import { readFileSync } from "node:fs";

/** Ends a run by the pid in its record, that of the wrapper: its command leads a separate group. */
export function endRun(pid: number): void {
  for (const child of childrenOf(pid)) endGroup(child);
  endGroup(pid);
}

/** Sends SIGKILL to a process group, if it still exists. */
export function endGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It has ended, or leads no group: the pump is in the group of its wrapper.
  }
}

/** The children of a process, the first one first; none of one that has ended (proc_pid_task(5)). */
export function childrenOf(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim();
    return text.split(" ").filter(Boolean).map(Number);
  } catch {
    return [];
  }
}
