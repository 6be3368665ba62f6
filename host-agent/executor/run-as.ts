import { execFile } from "node:child_process";
import { chown } from "node:fs/promises";
import { promisify } from "node:util";

import { ApiProblem } from "../protocol/problem.ts";
import type { RunFolder } from "./run-folder.ts";

/** The user that runs are started as, with one group and no supplementary ones. */
export interface RunUser {
  username: string;
  uid: number;
  gid: number;
  homedir: string;
  shell: string;
}

/** Far longer than the check takes on a busy host. A process of the user, a job too, can stop it. */
const CHECK_TIMEOUT_MS = 3_000;

/**
 * Why this user cannot launch the command, in words that fit after "cannot start it:"; undefined when it can. Throws
 * `host_unavailable` when the check does not end.
 */
export async function obstacleFor(
  { uid, gid, username }: RunUser,
  { cwd, program, script }: { cwd: string; program: string; script: string | undefined },
): Promise<string | undefined> {
  const test = 'test -x "$1" || exit 71; test -x "$2" || exit 72; test -r "$3" || exit 73';
  // Without a script, any readable folder will do.
  const args = ["-c", test, "sh", cwd, program, script ?? "/"];
  const limits = { timeout: CHECK_TIMEOUT_MS, killSignal: "SIGKILL" as const };
  const code = await promisify(execFile)("/bin/sh", args, { uid, gid, cwd: "/", env: {}, ...limits }).then(
    () => 0,
    (error: { code?: unknown; killed?: boolean }) => (error.killed ? "timeout" : error.code),
  );
  if (code === "timeout") {
    throw new ApiProblem(
      "host_unavailable",
      `The check whether ${username} may run it did not end within ${CHECK_TIMEOUT_MS / 1000} seconds; nothing was started`,
      { retryAfterSeconds: 1 },
    );
  }
  if (code === 0) return undefined;
  if (code === 71) return `its working folder may not be entered by ${username}`;
  if (code === 72) return `its program may not be run by ${username}`;
  if (code === 73) return `it may not be read by ${username}`;
  return `no process of ${username} can be started now`;
}

/** Gives the run's folder to the user, who needs it to keep the exit code. */
export async function giveFolder(folder: RunFolder, { uid, gid }: RunUser): Promise<void> {
  await chown(folder.exit, uid, gid);
  await chown(folder.path, uid, gid);
}

/**
 * Where the wrapper finds a descriptor of the run's folder: by it the user gets into this folder, and into nothing else
 * of the state folder, whose mode stays 0700.
 */
export const FOLDER_FD_PATH = "/proc/self/fd/3";
