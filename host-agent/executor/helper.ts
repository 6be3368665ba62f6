import { execFileSync } from "node:child_process";
import { lstatSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { ConfigError } from "../system/config-error.ts";
import type { RunUser } from "./run-as.ts";

/** Which wrapper runs start under: the compiled one, the shell's, or the compiled one where it works. */
export type WrapperChoice = "auto" | "sh" | "helper";

/** Where `npm ci` puts the compiled wrapper, if the host has a C compiler. */
export const HELPER_PATH = fileURLToPath(new URL("hub-wrapper", import.meta.url));
/** What the compiled wrapper says that reads the orders and the requests which this version writes. */
const VERSION = "hub-wrapper 2\n";
const CHECK_TIMEOUT_MS = 5_000;
const WRITABLE_BY_OTHERS = 0o022;

/**
 * The path of the compiled wrapper that runs are to start under, after trying it as the user of the runs; undefined for the
 * shell's. Throws ConfigError when it was asked for and does not work.
 */
export function chooseHelper(choice: WrapperChoice, runUser: RunUser | undefined): string | undefined {
  if (choice === "sh") return undefined;
  const obstacle = obstacleToHelper(runUser);
  if (obstacle === undefined) return HELPER_PATH;
  if (choice === "auto") return undefined;
  throw new ConfigError(`HUB_WRAPPER: the compiled wrapper cannot be used: ${obstacle}`);
}

/** Why the compiled wrapper cannot be used, in words that fit behind a colon; undefined when it can. */
export function obstacleToHelper(
  runUser?: Pick<RunUser, "uid" | "gid">,
  path = HELPER_PATH,
): string | undefined {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (!stats?.isFile())
    return "it was not built; `node host-agent/executor/build-helper.ts` builds it with a C compiler (cc)";
  if ((stats.mode & WRITABLE_BY_OTHERS) !== 0) return `others may write to ${path}`;
  try {
    const as = runUser ? { uid: runUser.uid, gid: runUser.gid } : {};
    const said = execFileSync(path, ["--check"], {
      encoding: "latin1",
      env: {},
      cwd: "/",
      timeout: CHECK_TIMEOUT_MS,
      ...as,
    });
    return said === VERSION ? undefined : "it is of another version; run `npm ci`";
  } catch (error) {
    return `it does not run here (${(error as NodeJS.ErrnoException).code ?? "it failed"})`;
  }
}
