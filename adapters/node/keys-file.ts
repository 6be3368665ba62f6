import { readFileSync } from "node:fs";

import type { KeyRing } from "../../handlers/auth.ts";
import { parseKeys } from "../../handlers/keys.ts";
import { isUnableToLook } from "../../host-agent/system/exhaustion.ts";
import { sha256 } from "../../host-agent/system/sha256.ts";
import { fileVersion, MISSING } from "../../host-agent/system/file-version.ts";

/** The file is looked at again when the last look is older than this: the promise is one second. */
const LOOK_INTERVAL_MS = 250;

/** The version of a file that is yet to be read. */
const UNREAD = "unread";

/**
 * The keys of the file at `path`, read again when it has changed. Missing from
 * the start, or with no keys in it: dev mode. Broken, or gone after keys were
 * seen: the last good keys stay in force, never an open door. `onChange` is told of each change. Throws at the
 * start when the file is there and cannot be used.
 */
export async function openKeysFile(
  path: string,
  now: () => number = Date.now,
  onChange: (outcome: "loaded" | "refused" | "gone", mode: KeyRing["mode"]) => void = () => {},
) {
  let version = fileVersion(path);
  let ring: KeyRing = version === MISSING ? { mode: "dev" } : await read(path);
  let lookedAt = now();
  /** What was said of the file as it is: the same is not said again. */
  let fault: string | undefined;

  async function refresh(): Promise<void> {
    const current = fileVersion(path);
    if (current === version) return;
    version = current;
    if (current === MISSING) {
      fault = undefined;
      onChange("gone", ring.mode);
      if (ring.mode !== "dev")
        ring = { ...ring, problem: "the keys file is gone; the last good keys stay in force" };
      return;
    }
    try {
      ring = await read(path);
      fault = undefined;
      onChange("loaded", ring.mode);
    } catch (error) {
      // The very keys that are to be refused may stand there: it is not over with one look.
      if (isUnableToLook((error as Error).cause)) version = UNREAD;
      if ((error as Error).message === fault) return;
      fault = (error as Error).message;
      console.error(JSON.stringify({ level: "error", event: "keys_file_broken", error: fault }));
      ring =
        ring.mode === "enforced"
          ? { ...ring, problem: "the keys file is broken; the last good keys stay in force" }
          : { mode: "unavailable", problem: "the keys file is broken; nobody is let in" };
      onChange("refused", ring.mode);
    }
  }

  let refreshing: Promise<void> | undefined;
  return async (): Promise<KeyRing> => {
    if (refreshing === undefined && Math.abs(now() - lookedAt) >= LOOK_INTERVAL_MS) {
      lookedAt = now();
      refreshing = refresh().finally(() => (refreshing = undefined));
    }
    await refreshing;
    return ring;
  };
}

async function read(path: string): Promise<KeyRing> {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new Error(`${path} cannot be read: ${(error as NodeJS.ErrnoException).code}`, { cause: error });
  }
  try {
    return await parseKeys(text, sha256);
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`, { cause: error });
  }
}
