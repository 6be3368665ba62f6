import { spawnSync } from "node:child_process";
import { chmodSync, readdirSync, readFileSync, realpathSync, statSync } from "node:fs";
import { join } from "node:path";

import type { Random } from "./random.ts";
import type { World } from "./world.ts";

/** Something of a run that the servers cannot read until it is disposed of. */
export interface Hidden extends Disposable {
  what: "exit file" | "run folder" | "log";
  errno: "EACCES" | "EIO";
}

/** The runs whose wrapper has written an exit code since this time, in epoch milliseconds. */
export function endedSince(stateDir: string, since: number): string[] {
  return runsIn(stateDir).filter((runId) => {
    const path = exitFile(stateDir, runId);
    try {
      return statSync(path).mtimeMs >= since && exitCodeIn(readFileSync(path, "latin1")) !== undefined;
    } catch {
      return false;
    }
  });
}

/** The exit codes that wrappers have left on the disk, by run. */
export function exitCodes(stateDir: string, runIds: readonly string[]): Map<string, number> {
  const codes = new Map<string, number>();
  for (const runId of runIds) {
    let text = "";
    try {
      text = readFileSync(exitFile(stateDir, runId), "latin1");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
    const code = exitCodeIn(text);
    if (code !== undefined) codes.set(runId, code);
  }
  return codes;
}

/**
 * Hides a file of an ended run from the servers: by its mode from a user without rights; from root, who may read
 * every file, by a mount of one that no read succeeds on. Undefined when it cannot be hidden.
 */
export function hide(runId: string, world: World, random: Random): Hidden | undefined {
  const isRoot = (world.uid ?? process.getuid?.()) === 0;
  if (isRoot) return hideByMount(exitFile(world.stateDir, runId));
  const what = random.pick(["exit file", "run folder", "log"] as const);
  const path = {
    "exit file": exitFile(world.stateDir, runId),
    "run folder": join(world.stateDir, "runs", runId),
    log: join(world.stateDir, "logs", "by-run", `${runId}.log`),
  }[what];
  try {
    const real = realpathSync(path);
    const { mode } = statSync(real);
    chmodSync(real, 0o000);
    return { what, errno: "EACCES", [Symbol.dispose]: () => chmodSync(real, mode) };
  } catch {
    return undefined;
  }
}

/** No process has memory at address 0: a read of it is EIO, and looks like one of a sick disk (proc_pid_mem(5)). */
function hideByMount(path: string): Hidden | undefined {
  const { status } = spawnSync("mount", ["--bind", `/proc/${process.pid}/mem`, path], { stdio: "ignore" });
  if (status !== 0) return undefined;
  return {
    what: "exit file",
    errno: "EIO",
    [Symbol.dispose]: () => void spawnSync("umount", [path], { stdio: "ignore" }),
  };
}

function runsIn(stateDir: string): string[] {
  try {
    return readdirSync(join(stateDir, "runs"));
  } catch {
    return [];
  }
}

function exitFile(stateDir: string, runId: string): string {
  return join(stateDir, "runs", runId, "exit");
}

function exitCodeIn(text: string): number | undefined {
  const code = /^ *(\d{1,3})\n/.exec(text)?.[1];
  return code === undefined ? undefined : Number(code);
}
