import { readFileSync } from "node:fs";

/** The pids of the children of a process that its main thread started (proc_pid_task(5)). */
export function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim();
  return text === "" ? [] : text.split(" ").map(Number);
}

/** The spawners of the host-agents that run in a process. */
export function spawnersOf(pid: number): number[] {
  return childrenOf(pid).filter((child) =>
    readFileSync(`/proc/${child}/cmdline`, "latin1").includes("spawner-main.ts"),
  );
}

/** The one spawner of a process. Throws when there is another number of them. */
export function spawnerOf(pid: number): number {
  const found = spawnersOf(pid);
  if (found.length !== 1) throw new Error(`${found.length} spawners under ${pid}`);
  return found[0]!;
}
