import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, fchownSync, fstatSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { ApiProblem } from "../protocol/problem.ts";
import { openFolder } from "../system/open-file.ts";
import { launchProblem, runnableArgv } from "./command.ts";
import { createLog } from "../logs/log-file.ts";
import { fileIdentity } from "../logs/log-limit.ts";
import type { Command, Started } from "./executor.ts";
import { currentBootId, type ProcessIdentity, readStat } from "./process-identity.ts";
import { FOLDER_FD_PATH, giveFolder, type RunUser } from "./run-as.ts";
import { helperOrder, openOrder, shellOrder } from "./order-file.ts";
import { createRunFolder, type RunFolder } from "./run-folder.ts";

/** Starts a command, as `startRun` does. */
export type StartRun = (command: Command, options: StartOptions) => Promise<Started>;

const WRAPPER_SH = fileURLToPath(new URL("wrapper.sh", import.meta.url));

/**
 * Starts a command under the wrapper, which has its own session, pump and log, and outlives this process. Throws
 * `launch_failed` when the command cannot be started and `host_unavailable` when the host lacks the resources for it,
 * or the wrapper.
 */
export async function startRun(
  command: Command,
  options: StartOptions,
  { onExit = () => {}, startWrapper = spawnWrapper }: StartParts = {},
): Promise<Started> {
  const { runId, folder, logPath, logLimit, env, runUser, cgroupFd, helper } = options;
  const program = helper ?? WRAPPER_SH;
  if (!existsSync(program)) throw wrapperMissing(program);
  try {
    const argv = await runnableArgv(command, { env, runUser });
    createRunFolder(folder);
    using log = createLog(logPath);
    const logFile = fileIdentity(fstatSync(log.fd));
    const order = {
      runId,
      argv,
      folder: runUser ? FOLDER_FD_PATH : folder.path,
      logLimit,
      hasCgroup: cgroupFd !== undefined,
    };
    if (runUser) {
      // So that the run may open it again.
      fchownSync(log.fd, runUser.uid, runUser.gid);
      await giveFolder(folder, runUser);
    }
    using held = openFolder(folder.path);
    const wrapper = {
      runId,
      helper,
      order: helper === undefined ? shellOrder(order) : helperOrder(order),
      folder: folder.path,
      fds: { log: log.fd, folder: held.fd, cgroup: cgroupFd },
      cwd: command.cwd,
      // A shell would add it.
      env: { PWD: command.cwd, ...env },
      runUser,
    };
    return { process: await startWrapper(wrapper, onExit), logFile };
  } catch (error) {
    throw launchProblem(error);
  }
}

/** The wrapper was removed while the agent ran, as by `npm ci`: no fault of the command, and the client may try again. */
function wrapperMissing(path: string): ApiProblem {
  return new ApiProblem("host_unavailable", "The host cannot start anything now; nothing was started", {
    retryAfterSeconds: 10,
    cause: `${path} does not exist. Run \`npm ci\`, then start the service again`,
  });
}

/** Where the run keeps what is its own, and as whom it runs. */
export interface StartOptions {
  runId: string;
  folder: RunFolder;
  logPath: string;
  /** The size limit of the log in bytes; undefined for none. */
  logLimit: number | undefined;
  env: Record<string, string>;
  /** Undefined for the agent's own user. */
  runUser: RunUser | undefined;
  /**
   * A descriptor of `cgroup.procs` of the run's cgroup, open for writing: the wrapper enters the cgroup before it claims the
   * run, and starts nothing if it cannot.
   */
  cgroupFd?: number | undefined;
  /** The path of the compiled wrapper; undefined for the shell's. */
  helper?: string | undefined;
}

/** What a start is made with. */
export interface StartParts {
  /** Called once the wrapper has ended. */
  onExit?: () => void;
  startWrapper?: StartWrapper;
}

/** The wrapper of a run that is to be started, and what it gets. */
export interface Wrapper {
  runId: string;
  /** The path of the compiled wrapper; undefined for the shell's. */
  helper: string | undefined;
  /** What it reads from descriptor 0. */
  order: string;
  /** The path of the run's folder. */
  folder: string;
  /** Of the log, of the folder, and of `cgroup.procs`. */
  fds: { log: number; folder: number; cgroup: number | undefined };
  cwd: string;
  env: Record<string, string>;
  runUser: RunUser | undefined;
}

/** Starts a wrapper as the leader of a session. Rejects with an errno when it cannot. `onExit` is called once it has ended. */
export type StartWrapper = (wrapper: Wrapper, onExit: () => void) => Promise<ProcessIdentity>;

/** Starts a wrapper by fork(2). */
export const spawnWrapper: StartWrapper = async (
  { runId, helper, order, folder, fds, cwd, env, runUser },
  onExit,
) => {
  using opened = openOrder(order, folder, runUser);
  const [program, args] = helper === undefined ? ["/bin/sh", [WRAPPER_SH, runId]] : [helper, [runId]];
  const child = spawn(program, args, {
    cwd,
    env,
    detached: true,
    // What a shell says of its job ("Terminated") is no output of the job.
    stdio: [opened.fd, fds.log, "ignore", fds.folder, fds.cgroup ?? "ignore"],
    ...(runUser && { uid: runUser.uid, gid: runUser.gid }),
  });
  await once(child, "spawn");
  child.once("exit", onExit);
  child.unref();
  // A child that has already ended stays a zombie until the event loop reaps it: its stat can still be read.
  const pid = child.pid!;
  return { pid, startTime: startTimeOf(pid) ?? "unknown", bootId: currentBootId() };
};

/** Never throws: the run has started by now, whatever can be seen of it. */
function startTimeOf(pid: number): string | undefined {
  try {
    return readStat(pid)?.startTime;
  } catch {
    return undefined;
  }
}
