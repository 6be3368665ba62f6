import {
  closeSync,
  fchownSync,
  fsyncSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { makeFolder } from "../../host-agent/system/make-folder.ts";

/** A file cannot be replaced: the message says why, and contains no part of its text. */
export class FileError extends Error {
  override readonly name = "FileError";
}

const LOCK_TIMEOUT_MS = 10_000;
const PRIVATE = 0o600;
const SQLITE_BUSY = 5;

/**
 * Replaces the file at `path` with the text that `change` returns; creates the file
 * and its folder if they do not exist. `change` receives the file's real path. One
 * change runs at a time, and at every moment the file is the complete old one or the
 * complete new one, closed to other users. Throws FileError, and what `change` throws.
 */
export function replaceFile(path: string, change: (path: string) => string): void {
  const folder = dirname(path);
  attempt(`${folder} cannot be created`, () => makeFolder(folder));
  // A link stays a link: its target is replaced.
  const target = realpathOf(path);
  using held = lock(path, siblingOf(target, "lock"));
  void held;
  const text = change(target);
  attempt(`${path} cannot be written`, () => write(target, text));
}

function attempt(failure: string, work: () => void): void {
  try {
    work();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new FileError(`${failure}: ${code ?? message}`, { cause: error });
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
function siblingOf(path: string, kind: string): string {
  return join(dirname(path), `.${basename(path)}.${kind}`);
}

/**
 * An exclusive lock until it is disposed of. It is SQLite's, and so the kernel's:
 * it is released when the process that has it is killed.
 */
function lock(path: string, lockFile: string): Disposable {
  attempt(`${path} cannot be written`, () => closeSync(openSync(lockFile, "a", PRIVATE)));
  try {
    const db = new DatabaseSync(lockFile, { timeout: LOCK_TIMEOUT_MS });
    db.exec("BEGIN EXCLUSIVE");
    return { [Symbol.dispose]: () => db.close() };
  } catch (error) {
    const isBusy = (error as { errcode?: number }).errcode === SQLITE_BUSY;
    throw new FileError(
      isBusy
        ? `Another command is changing ${path}. Try again`
        : `${lockFile} cannot be locked: ${(error as Error).message}`,
    );
  }
}

function write(path: string, text: string): void {
  const draft = siblingOf(path, "draft");
  // Left by a command that was killed: under the lock no other command writes it.
  rmSync(draft, { force: true });
  const file = openSync(draft, "wx", PRIVATE);
  try {
    const old = statSync(path, { throwIfNoEntry: false });
    // A change by root must not make the file unreadable for the service.
    if (old && process.getuid?.() === 0) fchownSync(file, old.uid, old.gid);
    // Writes every byte, or throws: write(2) alone may write a part on a disk that is almost full.
    writeFileSync(file, text);
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
