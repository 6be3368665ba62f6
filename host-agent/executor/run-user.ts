import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

import { ConfigError } from "../system/config-error.ts";
import { DEFAULT_PATH } from "./environment.ts";
import { hasEnvironmentEntry, RUN_ID_VARIABLE } from "./process-tree.ts";
import type { RunUser } from "./run-as.ts";

const WRAPPER_SH = fileURLToPath(new URL("wrapper.sh", import.meta.url));
const PROBE_RUN_ID = "probe";
const PROBE_TIMEOUT_MS = 5_000;

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
      // This runs as root, and the inherited PATH may begin with folders that other users can write to.
      env: { PATH: DEFAULT_PATH },
      stdio: ["ignore", "pipe", "ignore"],
    })
      .trimEnd()
      .split(":");
  } catch {
    throw wrong(value, `there is no ${database === "passwd" ? "user" : "group"} ${name} on this host`);
  }
}

async function probe({ uid, gid, username }: RunUser, value: string): Promise<void> {
  const child = spawn("/bin/sh", ["-c", 'test -r "$1" || exit 1; echo ready; read _', "sh", WRAPPER_SH], {
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
  // A process of the user, as a run of an earlier agent, can stop it.
  const timer = setTimeout(() => child.kill("SIGKILL"), PROBE_TIMEOUT_MS);
  const isReady = await Promise.race([ready, ended.then(() => false)]);
  const isFound = isReady && hasEnvironmentEntry(child.pid!, `${RUN_ID_VARIABLE}=${PROBE_RUN_ID}`);
  child.stdin.end();
  await ended;
  clearTimeout(timer);
  if (child.signalCode !== null) {
    throw wrong(value, `a process of ${username} was stopped or killed while it was tried; start again`);
  }
  if (!isReady) throw wrong(value, `${username} may not read ${WRAPPER_SH}`);
  if (!isFound)
    throw wrong(value, "the environment of another user's process cannot be read (CAP_SYS_PTRACE)");
}

function wrong(value: string, why: string): ConfigError {
  return new ConfigError(`HUB_RUN_AS: ${JSON.stringify(value)} cannot be used: ${why}`);
}
