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
export type StartRun = (command: Command, options: StartOptions) => Promise<Started>;

const RUN_SH = fileURLToPath(new URL("run.sh", import.meta.url));

/**
 * Starts a command under the wrapper. The process belongs to nobody: it
 * leads its own session and writes its own log. Throws `launch_failed` when the
 * command cannot be started and `host_unavailable` when the host lacks the resources for it. `onExit` is called once the
 * wrapper has ended.
 */
export async function startRun(
  command: Command,
  { folder, logPath, env, runUser }: StartOptions,
  onExit: () => void = () => {},
): Promise<Started> {
  try {
    const argv = await runnableArgv(command, { env, runUser });
    createRunFolder(folder);
    using log = createLog(logPath);
    const logFile = fileIdentity(fstatSync(log.fd));
    const to = { cwd: command.cwd, env, logFd: log.fd, onExit };
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
}

async function spawnWrapper(
  args: string[],
  {
    cwd,
    env,
    logFd,
    onExit,
    as,
  }: {
    cwd: string;
    env: Record<string, string>;
    logFd: number;
    onExit: () => void;
    as?: { runUser: RunUser; folderFd: number };
  },
): Promise<ProcessIdentity> {
  const child = spawn("/bin/sh", [RUN_SH, ...args], {
    cwd,
    env,
    detached: true,
    stdio: ["ignore", logFd, logFd, ...(as ? [as.folderFd] : [])],
    ...(as && { uid: as.runUser.uid, gid: as.runUser.gid }),
  });
  await once(child, "spawn");
  child.once("exit", onExit);
  child.unref();
  // A child that has already ended stays a zombie until the event loop reaps it: its stat can still be read.
  const pid = child.pid!;
  return { pid, startTime: startTimeOf(pid) ?? "unknown", bootId: currentBootId() };
}

/** Never throws: the run has started by now, whatever can be seen of it. */
function startTimeOf(pid: number): string | undefined {
  try {
    return readStat(pid)?.startTime;
  } catch {
    return undefined;
  }
}
