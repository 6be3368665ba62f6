import { readdirSync, readFileSync } from "node:fs";

import { hasEnded, readStat } from "../../../host-agent/executor/process-identity.ts";

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
    const isHere = command.includes(dir) || environ.includes(dir) || read(`/proc/${name}/comm`) === "sleep\n";
    const stat = readStat(pid);
    if (isHere && stat && !hasEnded(stat))
      found.push({ pid, runId, part: partOf(command, stat.session === pid), command });
  }
  return found;
}

function partOf(command: string, leadsSession: boolean): RunProcess["part"] {
  // A fork of the wrapper bears its command line until it becomes the command, and leads a group by then.
  if (/hub-wrapper|wrapper\.sh|run\.sh/.test(command)) return leadsSession ? "wrapper" : "other";
  return command.includes("job.sh") && !command.includes("terminal.js") ? "job" : "other";
}

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}
