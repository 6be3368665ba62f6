// What the doctor may use of the host-agent, in addition to config.ts, protocol/ and system/. Everything inside the rooms
// may change behind this file. It only looks: nothing here starts a run or writes a file.
import { readFileSync } from "node:fs";
import { dirname } from "node:path";

import { type Catalogue, type CatalogueRecipe, parseCatalogue } from "./catalogue/recipes-file.ts";
import type { Env } from "./config.ts";
import { parseTrustFile } from "./door/trusted-keys.ts";
import { findProgram } from "./executor/command.ts";
import { buildEnvironment } from "./executor/environment.ts";
import { currentBootId, hasEnded, readStat } from "./executor/process-identity.ts";
import { hasEnvironmentEntry, RUN_ID_VARIABLE } from "./executor/process-tree.ts";

export { isWithin, leftOutTest, NOTHING_LEFT_OUT } from "./catalogue/left-out.ts";
export type { CatalogueRecipe } from "./catalogue/recipes-file.ts";
export { processesOf } from "./executor/process-tree.ts";
export { obstacleToHelper } from "./executor/helper.ts";
export { LIMITS, unenforceable } from "./executor/cgroup-limits.ts";
export { inspectCgroupRoot } from "./executor/cgroup-root.ts";
export { openRunUser } from "./executor/run-user.ts";
export { missingForTerminal } from "./executor/terminal-mode.ts";

/** The recipes file at `path`. Throws an Error whose message says what is wrong with it. */
export function readCatalogue(path: string): Catalogue {
  return parseCatalogue(readFileSync(path, "utf8"), dirname(path));
}

/** Why a recipe's program cannot be found, in words without a full stop; undefined when it can. */
export function missingProgram({ command, cwd, env }: CatalogueRecipe, agentEnv: Env): string | undefined {
  try {
    findProgram(command[0]!, cwd, buildEnvironment(agentEnv, "doctor", env));
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** The key ids in the trust file at `path`. Throws an Error whose message says what is wrong with it. */
export function readTrustedKeyIds(path: string): string[] {
  return parseTrustFile(readFileSync(path, "utf8")).keys.map(({ kid }) => kid);
}

/** The file under /proc that a run's liveness needs and that cannot be read; undefined when all can be. */
export function unreadableProcFile(): string | undefined {
  if (readStat(process.pid) === undefined) return "/proc/self/stat";
  try {
    currentBootId();
    return undefined;
  } catch {
    return "/proc/sys/kernel/random/boot_id";
  }
}

/** `living`, `zombie` when it has ended and nobody has taken its exit code, or `gone`. */
export function processState(pid: number, startTime?: string): "living" | "zombie" | "gone" {
  const stat = readStat(pid);
  if (stat === undefined || (startTime !== undefined && stat.startTime !== startTime)) return "gone";
  return hasEnded(stat) ? "zombie" : "living";
}

/** When a process started, as the kernel counts it: with its pid its identity. Undefined when it does not exist. */
export function startTimeOf(pid: number): string | undefined {
  return readStat(pid)?.startTime;
}

/** The environment by which a process is recognised as one of this run. */
export function runEnvironment(runId: string): Record<string, string> {
  return { [RUN_ID_VARIABLE]: runId };
}

/** True when the process carries the run's id in its environment, and this user can read it. */
export function isOfRun(pid: number, runId: string): boolean {
  return hasEnvironmentEntry(pid, `${RUN_ID_VARIABLE}=${runId}`);
}
