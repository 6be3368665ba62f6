import { readFileSync } from "node:fs";

import { type KeyFileEntry, parseKeysFile } from "../../handlers/keys.ts";
import { withoutByteOrderMark } from "../../host-agent/protocol/byte-order-mark.ts";
import { createKeyCommand, ownKeysFile } from "../node/keys-path.ts";
import { FileError, replaceFile } from "./replace-file.ts";

/** The keys file cannot be changed: the message says why, and never contains a key. */
export class KeysError extends Error {
  override readonly name = "KeysError";
}

/** The keys file's content, with all fields that others have written into it. */
export interface KeysDocument {
  keys: KeyFileEntry[];
  [field: string]: unknown;
}

/** Reads the keys file at `path`; one that does not exist has no keys. Throws KeysError when it is malformed. */
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
  // Not the schema's output: unknown fields must keep their places.
  return JSON.parse(withoutByteOrderMark(text)) as KeysDocument;
}

/** The errors of a user without access to the server's default file. */
const NOT_ALLOWED = new Set(["EACCES", "EPERM", "EROFS"]);

/** Changes the keys file at `path` as replaceFile does. Throws KeysError. */
export function editKeys(path: string, change: (document: KeysDocument) => KeysDocument): void {
  try {
    replaceFile(path, (target) => `${JSON.stringify(change(readKeys(target)), null, 2)}\n`);
  } catch (error) {
    if (!(error instanceof FileError)) throw error;
    const code = (error.cause as NodeJS.ErrnoException | undefined)?.code ?? "";
    const advice = NOT_ALLOWED.has(code)
      ? `. Use a file that you may write: ${createKeyCommand(ownKeysFile(process.env))} - and start the server with HUB_KEYS_FILE set to it`
      : "";
    throw new KeysError(`${error.message}${advice}`);
  }
}
