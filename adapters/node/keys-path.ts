import { accessSync, constants, statSync } from "node:fs";
import { dirname, join } from "node:path";

import { configFolder, type Env } from "../../host-agent/config.ts";

/** Where the API document has the keys file. */
const SHARED_KEYS_FILE = "/app/config/enterprise_keys.json";

/** The keys file of this user alone, in the user's configuration folder. */
export function ownKeysFile(env: Env): string {
  return join(configFolder(env), "enterprise_keys.json");
}

/**
 * The keys file where HUB_KEYS_FILE is not set: the one of the API document, or this user's own where that one
 * does not exist and cannot be created. A file that exists has priority, also one that this user may not look at.
 */
export function defaultKeysFile(env: Env, shared = SHARED_KEYS_FILE): string {
  const own = ownKeysFile(env);
  if (!isMissing(shared)) return shared;
  return isMissing(own) && mayCreate(shared) ? shared : own;
}

/** The command line that creates a key in this file. */
export function createKeyCommand(keysFile: string): string {
  return `npm run -s keys -- create --file ${shellWord(keysFile)} --name NAME --scopes '*'`;
}

/** True only when it is certain that nothing exists at `path`. */
function isMissing(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) === undefined;
  } catch {
    return false;
  }
}

function mayCreate(path: string): boolean {
  let folder = dirname(path);
  while (isMissing(folder)) folder = dirname(folder);
  try {
    accessSync(folder, constants.W_OK | constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function shellWord(path: string): string {
  return /^[\w./@%+=:,-]+$/.test(path) ? path : `'${path.replaceAll("'", String.raw`'\''`)}'`;
}
