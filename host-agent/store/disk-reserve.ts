import { closeSync, existsSync, fsyncSync, openSync, unlinkSync, writeSync } from "node:fs";

/** Space that is kept for what must be written on a full disk: that a run was killed, or has ended. */
export interface DiskReserve {
  /** Gives the space back to the file system. False when there was none. */
  release(): boolean;
  /** Takes the space again, if the disk has it. */
  refill(): void;
}

/** A kill and an end take a page of SQLite's log each; this is enough for about thirty of them. */
const RESERVE_BYTES = 262_144;

/** A file at `path` that takes space, and takes it now if it can. */
export function openDiskReserve(path: string): DiskReserve {
  function refill(): void {
    if (existsSync(path)) return;
    try {
      const fd = openSync(path, "wx", 0o600);
      try {
        writeSync(fd, Buffer.alloc(RESERVE_BYTES, 1));
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
    } catch {
      release();
    }
  }

  function release(): boolean {
    try {
      unlinkSync(path);
      return true;
    } catch {
      return false;
    }
  }

  refill();
  return { release, refill };
}

/** For a database in memory. */
export const NO_RESERVE: DiskReserve = { release: () => false, refill() {} };
