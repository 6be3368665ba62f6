import { readFile } from "node:fs/promises";

import type { KeyRing } from "../../handlers/auth.ts";
import { parseKeys } from "../../handlers/keys.ts";
import type { Log } from "../../host-agent/system/log-line.ts";
import { sha256 } from "../../host-agent/system/sha256.ts";
import { fileVersion, MISSING } from "../../host-agent/system/file-version.ts";
import { watchFile } from "../../host-agent/system/watched-file.ts";

/** The file is checked again when the last check is older than this: a change is in force within one second. */
const LOOK_INTERVAL_MS = 250;

/** Receives each change of the keys: with the mode before a removal, and otherwise with the new mode. */
export type OnKeysChange = (outcome: "loaded" | "refused" | "gone", mode: KeyRing["mode"]) => void;

/**
 * The keys of the file at `path`, read again after each change. Without the file at
 * the start, or with a file without keys: dev mode. When the file is malformed, or is
 * removed after it had keys, the last good keys stay in force; when its list was emptied, no
 * key is in force, and every request is refused until a restart: a running Hub never becomes open. Throws at the start when the file exists and cannot be used.
 */
export async function openKeysFile(
  path: string,
  log: Log,
  now: () => number = Date.now,
  onChange: OnKeysChange = () => {},
): Promise<() => Promise<KeyRing>> {
  const version = fileVersion(path);
  const initial: KeyRing = version === MISSING ? { mode: "dev" } : await readKeys(path);
  let hadKeys = initial.mode === "enforced";
  const file = watchFile<KeyRing>(path, {
    initial,
    version,
    async parse(text) {
      const ring = await parseKeys(text, sha256);
      hadKeys ||= ring.mode === "enforced";
      return ring.mode === "dev" && hadKeys ? EMPTIED : ring;
    },
    onLoaded: ({ mode }) => onChange("loaded", mode),
    onMissing(last) {
      onChange("gone", last.mode);
      if (last.mode === "dev") return last;
      return { ...last, problem: "the keys file is gone; the last good keys stay in force" };
    },
    onFault({ error }, last) {
      const fault = describeFault(path, error);
      log({ level: "error", event: "keys_file_broken", error: fault });
      const ring: KeyRing =
        last.mode === "enforced"
          ? { ...last, problem: "the keys file is broken; the last good keys stay in force" }
          : { mode: "unavailable", problem: "the keys file is broken; every request is refused" };
      onChange("refused", ring.mode);
      return ring;
    },
  });
  let lookedAt = now();
  return async () => {
    if (Math.abs(now() - lookedAt) < LOOK_INTERVAL_MS) return file.latest();
    lookedAt = now();
    return file.current();
  };
}

const EMPTIED: KeyRing = {
  mode: "unavailable",
  problem: "the keys file has no keys; every request is refused until the service is restarted",
};

async function readKeys(path: string): Promise<KeyRing> {
  try {
    return await parseKeys(await readFile(path, "utf8"), sha256);
  } catch (error) {
    throw new Error(describeFault(path, error as Error), { cause: error });
  }
}

/** Node's message for a file that cannot be read repeats the path and names the call; the code is enough. */
function describeFault(path: string, { code, message }: NodeJS.ErrnoException): string {
  return code === undefined ? `${path}: ${message}` : `${path} cannot be read: ${code}`;
}
