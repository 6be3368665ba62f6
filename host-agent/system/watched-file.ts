import { readFile } from "node:fs/promises";

import { isUnableToLook } from "./exhaustion.ts";
import { fileVersion, MISSING } from "./file-version.ts";

/** Why the file as it is cannot be used. */
export interface FileFault {
  /** What `parse` threw, or the error of reading the file. */
  error: Error;
  /** True when the host could not open the file now (no descriptors, no memory): this says nothing about the file. */
  isPassing: boolean;
}

export interface WatchedFileOptions<T> {
  /** The value in force until the file is read for the first time. */
  initial: T;
  /** The version that `initial` was read from; without it the first look reads the file. */
  version?: string;
  /** Makes a value of the file's text. Rejects when the text cannot be used. */
  parse(text: string): T | Promise<T>;
  /** Called after each successful read. */
  onLoaded(value: T): void;
  /**
   * Called once for each fault, not again for one with the same message. Returns
   * the value in force from now on. When it throws, the look rejects and counts as not made.
   */
  onFault(fault: FileFault, last: T): T;
  /** Called when the file was removed. Returns the value in force from now on. Without it a missing file is a fault. */
  onMissing?(last: T): T;
}

export interface WatchedFile<T> {
  /** The value of the file as it is at this call, or later: a look that began before this call does not count. */
  current(): Promise<T>;
  /** The value of the last look; waits for one that is under way, and starts none. */
  latest(): Promise<T>;
}

/**
 * A file that is read again when its version changes (see `fileVersion`).
 * Concurrent calls share one look. A fault that may pass is tried again at each look.
 */
export function watchFile<T>(path: string, options: WatchedFileOptions<T>): WatchedFile<T> {
  let { initial: value, version } = options;
  let fault: FileFault | undefined;
  let looking: Promise<void> | undefined;

  async function look(): Promise<void> {
    // Before the read: a change during the read shows at the next look.
    const found = fileVersion(path);
    if (found === version) return;
    if (found === MISSING && options.onMissing) {
      fault = undefined;
      value = options.onMissing(value);
      version = found;
      return;
    }
    try {
      value = await options.parse(await readFile(path, "utf8"));
    } catch (error) {
      report({ error: error as Error, isPassing: isUnableToLook(error) });
      version = isUnableToLook(error) ? undefined : found;
      return;
    }
    fault = undefined;
    version = found;
    options.onLoaded(value);
  }

  function report(next: FileFault): void {
    if (next.error.message !== fault?.error.message) value = options.onFault(next, value);
    fault = next;
  }

  return {
    async current() {
      // This look began before the call; its failure belongs to the calls that share it.
      if (looking) await looking.catch(() => undefined);
      looking ??= look().finally(() => (looking = undefined));
      await looking;
      return value;
    },
    async latest() {
      await looking;
      return value;
    },
  };
}
