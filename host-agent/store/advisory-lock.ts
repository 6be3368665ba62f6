import { DatabaseSync } from "node:sqlite";

/** A lock between processes, by name: advisory, so it binds only those that take it. */
export interface AdvisoryLock {
  /** Runs `work` while no other process holds the lock; the kernel releases it when the holder ends in any way. */
  hold<T>(work: () => T): T;
  close(): void;
}

const WAIT_MS = 5_000;

/**
 * The lock whose file is at `path`: an SQLite database to which nothing is ever written. SQLite's own
 * lock on it (fcntl(2), sqlite.org/lockingv3.html) is the advisory lock, since Node offers no flock(2). Within one
 * process calls may nest. `hold` throws SQLITE_BUSY after 5 seconds.
 */
export function openAdvisoryLock(path: string): AdvisoryLock {
  const db = new DatabaseSync(path, { timeout: WAIT_MS });
  return {
    hold(work) {
      if (db.isTransaction) return work();
      db.exec("BEGIN EXCLUSIVE");
      try {
        return work();
      } finally {
        db.exec("ROLLBACK");
      }
    },
    close: () => db.close(),
  };
}
