import {
  closeSync,
  fchownSync,
  fsyncSync,
  mkdirSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";

/** A file cannot be replaced: the message says why, and holds nothing of its text. */
export class FileError extends Error {
  override readonly name = "FileError";
}

const LOCK_TIMEOUT_MS = 10_000;
const PRIVATE = 0o600;
const SQLITE_BUSY = 5;

/**
 * Replaces the file at `path`, made if it is missing, together with its folder,
 * with the text that `change` returns; `change` is told the file's real path. One
 * change at a time, and at every moment the file is the old one or the new one,
 * whole, and open to nobody but its owner. Throws FileError, and what `change` throws.
 */
export function replaceFile(path: string, change: (path: string) => string): void {
  const folder = dirname(path);
  attempt(`${folder} cannot be made`, () => mkdirSync(folder, { recursive: true, mode: 0o700 }));
  // A link stays a link: what it leads to is replaced.
  const target = realpathOf(path);
  using held = lock(path, besides(target, "lock"));
  void held;
  const text = change(target);
  attempt(`${path} cannot be written`, () => write(target, text));
}

function attempt(failure: string, work: () => void): void {
  try {
    work();
  } catch (error) {
    throw new FileError(`${failure}: ${(error as NodeJS.ErrnoException).code}`, { cause: error });
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
        ? `Another command is changing ${path}; try again`
        : `${lockFile} cannot be locked: ${(error as Error).message}`,
    );
  }
}

function write(path: string, text: string): void {
  const draft = besides(path, "draft");
  // Left behind by one that was killed; the lock says that nobody writes it now.
  rmSync(draft, { force: true });
  const file = openSync(draft, "wx", PRIVATE);
  try {
    const old = statSync(path, { throwIfNoEntry: false });
    // Who changes the file as root must not lock the service out.
    if (old && process.getuid?.() === 0) fchownSync(file, old.uid, old.gid);
    // To the last byte, or it throws: write(2) alone may write a part on a disk that is nearly full.
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
