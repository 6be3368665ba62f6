import { readdirSync, readFileSync } from "node:fs";

import { hasEnded, type ProcessStat, readStat } from "../../../host-agent/executor/process-identity.ts";

/** A living process of a run. */
export interface RunProcess {
  pid: number;
  runId: string;
  /** The wrapper, the job's own shell, or anything that the two have started. */
  part: "wrapper" | "job" | "other";
  command: string;
}

/** Every living process that carries a run's id and the path of this world. */
export function runProcesses(dir: string): RunProcess[] {
  const found: RunProcess[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const pid = Number(name);
    const environ = read(`/proc/${name}/environ`);
    const runId = /(?:^|\0)HUB_RUN_ID=(run_\w+)\0/.exec(environ)?.[1];
    if (runId === undefined) continue;
    const command = read(`/proc/${name}/cmdline`);
    // Several worlds are under way at once: a run's folder, or its own, is in the environment of all its processes.
    const isHere = command.includes(dir) || environ.includes(dir);
    const stat = readStat(pid);
    if (isHere && stat && !hasEnded(stat)) found.push({ pid, runId, part: partOf(command, stat), command });
  }
  return found;
}

/** A fork has the command line of its parent until it becomes another program: only the wrapper leads a session, only the job a group. */
function partOf(command: string, { pid, pgrp, session }: ProcessStat): RunProcess["part"] {
  if (/hub-wrapper|wrapper\.sh|run\.sh/.test(command)) return session === pid ? "wrapper" : "other";
  return pgrp === pid && command.includes("job.sh") && !command.includes("terminal.js") ? "job" : "other";
}

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}
