import { execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, openSync } from "node:fs";
import { chown } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { ConfigError } from "./config.ts";
import { hasEnvironmentEntry, RUN_ID_VARIABLE } from "./process-tree.ts";
import type { RunFolder } from "./run-files.ts";

/** The user that runs are started as, with one group and no supplementary ones. */
export interface RunUser {
  username: string;
  uid: number;
  gid: number;
  homedir: string;
  shell: string;
}

const RUN_SH = fileURLToPath(new URL("run.sh", import.meta.url));
const PROBE_RUN_ID = "probe";

/**
 * The user of `HUB_RUN_AS`, after trying that a process of it can be started,
 * read the wrapper, and be found again by its environment. Throws ConfigError.
 */
export async function openRunUser(value: string): Promise<RunUser> {
  if (process.getuid?.() !== 0) throw wrong(value, "only a host-agent that runs as root can switch users");
  const [user, group] = value.split(":") as [string, string | undefined];
  const [username, , uid, gid, , homedir, shell] = lookUp("passwd", user, value);
  const groupId = group === undefined ? gid : lookUp("group", group, value)[2];
  const runUser = {
    username: username!,
    uid: Number(uid),
    gid: Number(groupId),
    homedir: homedir || "/",
    shell: shell || "/bin/sh",
  };
  if (runUser.uid === 0) throw wrong(value, "that is root itself");
  await probe(runUser, value);
  return runUser;
}

function lookUp(database: "passwd" | "group", name: string, value: string): string[] {
  try {
    return execFileSync("getent", ["--", database, name], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    })
      .trimEnd()
      .split(":");
  } catch {
    throw wrong(value, `there is no ${database === "passwd" ? "user" : "group"} ${name} on this host`);
  }
}

async function probe({ uid, gid, username }: RunUser, value: string): Promise<void> {
  const child = spawn("/bin/sh", ["-c", 'test -r "$1" || exit 1; echo ready; read _', "sh", RUN_SH], {
    uid,
    gid,
    cwd: "/",
    env: { [RUN_ID_VARIABLE]: PROBE_RUN_ID },
    stdio: ["pipe", "pipe", "ignore"],
  });
  const ended = once(child, "close").catch((error: Error) => {
    throw wrong(value, `no process of ${username} can be started: ${error.message}`);
  });
  const ready = once(child.stdout, "data").then(() => true);
  const isReady = await Promise.race([ready, ended.then(() => false)]);
  const isFound = isReady && hasEnvironmentEntry(child.pid!, `${RUN_ID_VARIABLE}=${PROBE_RUN_ID}`);
  child.stdin.end();
  await ended;
  if (!isReady) throw wrong(value, `${username} may not read ${RUN_SH}`);
  if (!isFound)
    throw wrong(value, "the environment of another user's process cannot be read (CAP_SYS_PTRACE)");
}

function wrong(value: string, why: string): ConfigError {
  return new ConfigError(`HUB_RUN_AS: ${JSON.stringify(value)} cannot be used: ${why}`);
}

/** What stands between the user and a launch, in words that fit behind "cannot start it:"; undefined when nothing does. */
export async function obstacleFor(
  { uid, gid, username }: RunUser,
  { cwd, program, script }: { cwd: string; program: string; script: string | undefined },
): Promise<string | undefined> {
  const test = 'test -x "$1" || exit 71; test -x "$2" || exit 72; test -r "$3" || exit 73';
  // Without a script any folder that is readable stands for it.
  const args = ["-c", test, "sh", cwd, program, script ?? "/"];
  const code = await promisify(execFile)("/bin/sh", args, { uid, gid, cwd: "/", env: {} }).then(
    () => 0,
    (error: { code?: unknown }) => error.code,
  );
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
 * A descriptor of the run's folder for the wrapper: by it the user gets into this
 * folder, and into nothing else of the state folder, whose own mode stays 0700.
 */
export function openFolder(folder: RunFolder) {
  const fd = openSync(folder.path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  return { fd, [Symbol.dispose]: () => closeSync(fd) };
}

/** Where the wrapper finds that descriptor. */
export const FOLDER_FD_PATH = "/proc/self/fd/3";
