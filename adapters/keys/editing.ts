import { readFileSync } from "node:fs";

import { type KeyFileEntry, parseKeysFile } from "../../handlers/keys.ts";
import { FileError, replaceFile } from "./replace-file.ts";

/** The keys file cannot be changed as asked: the message says why, and never holds a key. */
export class KeysError extends Error {
  override readonly name = "KeysError";
}

/** The keys file as it stands there, with all that others have written into it. */
export interface KeysDocument {
  keys: KeyFileEntry[];
  [field: string]: unknown;
}

/** Reads the keys file at `path`; a missing one has no keys. Throws KeysError when it is broken. */
export function readKeys(path: string): KeysDocument {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return { keys: [] };
    throw new KeysError(`${path} cannot be read: ${code}`);
  }
  try {
    parseKeysFile(text);
  } catch (error) {
    throw new KeysError(`${path}: ${(error as Error).message}. Nothing was changed`);
  }
  // Not what the schema makes of it: fields that it does not know keep their places.
  return JSON.parse(text) as KeysDocument;
}

/** What a user meets who has no right to the server's default file. */
const NOT_ALLOWED = new Set(["EACCES", "EPERM", "EROFS"]);

/** Changes the keys file at `path` as replaceFile does. Throws KeysError. */
export function editKeys(path: string, change: (document: KeysDocument) => KeysDocument): void {
  try {
    replaceFile(path, (target) => `${JSON.stringify(change(readKeys(target)), null, 2)}\n`);
  } catch (error) {
    if (!(error instanceof FileError)) throw error;
    const code = (error.cause as NodeJS.ErrnoException | undefined)?.code ?? "";
    const advice = NOT_ALLOWED.has(code)
      ? ". HUB_KEYS_FILE, for this command and for the server, names a file that you may write; keep it outside the script roots"
      : "";
    throw new KeysError(`${error.message}${advice}`);
  }
}
