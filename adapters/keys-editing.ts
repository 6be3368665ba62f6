import {
  closeSync,
  fchownSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { type KeyFileEntry, parseKeysFile } from "../handlers/keys.ts";

/** The keys file cannot be changed as asked: the message says why, and never holds a key. */
export class KeysError extends Error {
  override readonly name = "KeysError";
}

/** The keys file as it stands there, with all that others have written into it. */
export interface KeysDocument {
  keys: KeyFileEntry[];
  [field: string]: unknown;
}

const LOCK_TIMEOUT_MS = 10_000;
const PRIVATE = 0o600;

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

/**
 * Changes the keys file at `path`, made if it is missing, together with its
 * folder. One change at a time, and at every moment the file is the old one or
 * the new one, whole, and open to nobody but its owner. Throws KeysError.
 */
export function editKeys(path: string, change: (document: KeysDocument) => KeysDocument): void {
  const folder = dirname(path);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new KeysError(`${folder} cannot be made: ${(error as NodeJS.ErrnoException).code}`);
  }
  // A link stays a link: what it leads to is replaced.
  const target = realpathOf(path);
  using held = lock(besides(target, "lock"));
  void held;
  const changed = change(readKeys(target));
  try {
    replaceFile(target, `${JSON.stringify(changed, null, 2)}\n`);
  } catch (error) {
    throw new KeysError(`${path} cannot be written: ${(error as NodeJS.ErrnoException).code}`);
  }
}

function realpathOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** A hidden file in the same folder, and so on the same file system. */
function besides(path: string, kind: string): string {
  return join(dirname(path), `.${basename(path)}.${kind}`);
}

/**
 * Holds an exclusive lock until it is disposed of. It is SQLite's, and so the
 * kernel's: whoever is killed while holding it gives it back.
 */
function lock(path: string): Disposable {
  try {
    closeSync(openSync(path, "a", PRIVATE));
    const db = new DatabaseSync(path, { timeout: LOCK_TIMEOUT_MS });
    db.exec("BEGIN EXCLUSIVE");
    return { [Symbol.dispose]: () => db.close() };
  } catch (error) {
    const isBusy = (error as { errcode?: number }).errcode === 5;
    throw new KeysError(
      isBusy
        ? "Another command is changing the keys; try again"
        : `${path} cannot be locked: ${(error as Error).message}`,
    );
  }
}

function replaceFile(path: string, text: string): void {
  const draft = besides(path, "draft");
  // Left behind by one that was killed; the lock says that nobody writes it now.
  rmSync(draft, { force: true });
  const file = openSync(draft, "wx", PRIVATE);
  try {
    const old = statSync(path, { throwIfNoEntry: false });
    // Who changes the keys as root must not lock the service out.
    if (old && process.getuid?.() === 0) fchownSync(file, old.uid, old.gid);
    writeSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(draft, path);
  syncFolder(dirname(path));
}

/** A rename is durable once its folder is. */
function syncFolder(folder: string): void {
  const handle = openSync(folder, "r");
  fsyncSync(handle);
  closeSync(handle);
}
