import { spawn } from "node:child_process";
import { once } from "node:events";
import { fchownSync, fstatSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { openFolder } from "../system/open-file.ts";
import { launchProblem, runnableArgv } from "./command.ts";
import { createLog } from "../logs/log-file.ts";
import { fileIdentity } from "../logs/log-limit.ts";
import type { Command, Started } from "./executor.ts";
import { currentBootId, type ProcessIdentity, readStat } from "./process-identity.ts";
import { FOLDER_FD_PATH, giveFolder, type RunUser } from "./run-as.ts";
import { createRunFolder, type RunFolder } from "./run-folder.ts";

/** Starts a command, as `startRun` does. */
export type StartRun = typeof startRun;

const RUN_SH = fileURLToPath(new URL("run.sh", import.meta.url));

/**
 * Starts a command under the wrapper. The process belongs to nobody: it
 * leads its own session and writes its own log. Throws `launch_failed` when the
 * command cannot be started and `host_unavailable` when the host lacks the resources for it.
 */
export async function startRun(
  command: Command,
  { folder, logPath, env, runUser, cgroupFd }: StartOptions,
): Promise<Started> {
  try {
    const argv = await runnableArgv(command, { env, runUser });
    createRunFolder(folder);
    using log = createLog(logPath);
    const logFile = fileIdentity(fstatSync(log.fd));
    const to = { cwd: command.cwd, env, logFd: log.fd, cgroupFd };
    if (!runUser) return { process: await spawnWrapper([folder.path, ...argv], to), logFile };
    // So that the run may open it again, as by /dev/stderr.
    fchownSync(log.fd, runUser.uid, runUser.gid);
    await giveFolder(folder, runUser);
    using opened = openFolder(folder.path);
    const as = { runUser, folderFd: opened.fd };
    return { process: await spawnWrapper([FOLDER_FD_PATH, ...argv], { ...to, as }), logFile };
  } catch (error) {
    throw launchProblem(error);
  }
}

/** Where the run keeps what is its own, and as whom it runs. */
export interface StartOptions {
  folder: RunFolder;
  logPath: string;
  env: Record<string, string>;
  /** Undefined for the agent's own user. */
  runUser: RunUser | undefined;
  /** The `cgroup.procs` of the run's cgroup, opened for writing: the wrapper enters by it. Undefined for no cgroup. */
  cgroupFd?: number | undefined;
}

async function spawnWrapper(
  args: string[],
  {
    cwd,
    env,
    logFd,
    cgroupFd,
    as,
  }: {
    cwd: string;
    env: Record<string, string>;
    logFd: number;
    cgroupFd: number | undefined;
    as?: { runUser: RunUser; folderFd: number };
  },
): Promise<ProcessIdentity> {
  const inCgroup = cgroupFd === undefined ? [] : ["-g"];
  const child = spawn("/bin/sh", [RUN_SH, ...inCgroup, ...args], {
    cwd,
    env,
    detached: true,
    stdio: ["ignore", logFd, logFd, ...descriptorsFor(as?.folderFd, cgroupFd)],
    ...(as && { uid: as.runUser.uid, gid: as.runUser.gid }),
  });
  await once(child, "spawn");
  child.unref();
  // A child that has already ended stays a zombie until the event loop reaps it: its stat can still be read.
  const pid = child.pid!;
  return { pid, startTime: startTimeOf(pid) ?? "unknown", bootId: currentBootId() };
}

/** Descriptor 3 is the run's folder, 4 the way into its cgroup (run.sh). */
function descriptorsFor(folderFd: number | undefined, cgroupFd: number | undefined): (number | "ignore")[] {
  if (cgroupFd !== undefined) return [folderFd ?? "ignore", cgroupFd];
  return folderFd === undefined ? [] : [folderFd];
}

/** Never throws: the run has started by now, whatever can be seen of it. */
function startTimeOf(pid: number): string | undefined {
  try {
    return readStat(pid)?.startTime;
  } catch {
    return undefined;
  }
}
