import { accessSync, chmodSync, constants, existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

import { ConfigError } from "./system/config-error.ts";
import { makeFolder } from "./system/make-folder.ts";

/** Makes the state folder, or closes one that is empty or the Hub's to all others; any other stays as it is. Throws ConfigError. */
export function prepareStateDir(stateDir: string): void {
  try {
    refuseShared(stateDir);
    for (const folder of [stateDir, join(stateDir, "runs"), join(stateDir, "logs")]) {
      makeFolder(folder);
    }
    const { uid } = statSync(stateDir);
    if (uid !== process.getuid?.()) {
      throw new ConfigError(`HUB_STATE_DIR: ${stateDir} belongs to another user (uid ${uid})`);
    }
    chmodSync(stateDir, 0o700);
    accessSync(stateDir, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(`HUB_STATE_DIR: ${stateDir} cannot be used: ${(error as Error).message}`);
  }
}

/** Each tells a state folder: of an agent, of an agent that is only paired, of an edge. */
const STATE_FILES = ["runs.db", "trusted_keys.json", "kv.db"];
const GROUP_AND_OTHERS = 0o077;
const STICKY_OR_ANYONE_WRITES = 0o1002;

/** A setting that names /tmp or a home must not lock everybody else out of it. */
function refuseShared(stateDir: string): void {
  const stats = statSync(stateDir, { throwIfNoEntry: false });
  if (stats === undefined) return;
  if (!stats.isDirectory()) throw new ConfigError(`HUB_STATE_DIR: ${stateDir} is a file; name a folder`);
  if ((stats.mode & GROUP_AND_OTHERS) === 0) return;
  const isOurs = STATE_FILES.some((name) => existsSync(join(stateDir, name)));
  const isShared = (stats.mode & STICKY_OR_ANYONE_WRITES) !== 0;
  if (!isShared && (isOurs || readdirSync(stateDir).length === 0)) return;
  throw new ConfigError(
    `HUB_STATE_DIR: ${stateDir} is open to others${isShared ? "" : " and holds files that are not the Hub's"}. ` +
      "Name a folder for the Hub alone, or close this one with chmod 700 if it is",
  );
}
