import { DatabaseSync } from "node:sqlite";

import { sleep } from "../system/sleep.ts";

/** A lock between processes, by name: advisory, so it binds only those that take it. */
export interface AdvisoryLock {
  /** Runs `work` while nobody else holds the lock, here or in another process; the kernel releases it when the holder ends in any way. */
  hold<T>(work: () => Promise<T>): Promise<T>;
  close(): void;
}

const WAIT_MS = 5_000;
const RETRY_MS = 10;
const SQLITE_BUSY = 5;

/**
 * The lock whose file is at `path`: an SQLite database to which nothing is ever written. SQLite's own
 * lock on it (fcntl(2), sqlite.org/lockingv3.html) is the advisory lock, since Node offers no flock(2). Within one
 * process calls queue up, so they must not nest. Waiting blocks nothing else. `hold` throws SQLITE_BUSY after 5 seconds.
 */
export function openAdvisoryLock(path: string): AdvisoryLock {
  const db = new DatabaseSync(path, { timeout: 0 });
  let last: Promise<unknown> = Promise.resolve();

  async function holdNow<T>(work: () => Promise<T>): Promise<T> {
    await begin(db);
    try {
      return await work();
    } finally {
      db.exec("ROLLBACK");
    }
  }

  return {
    async hold(work) {
      const held = last.then(() => holdNow(work));
      last = held.catch(() => undefined);
      return held;
    },
    close: () => db.close(),
  };
}

async function begin(db: DatabaseSync): Promise<void> {
  for (const giveUpAt = performance.now() + WAIT_MS; ;) {
    try {
      db.exec("BEGIN EXCLUSIVE");
      return;
    } catch (error) {
      const isBusy = (error as { errcode?: number }).errcode === SQLITE_BUSY;
      if (!isBusy || performance.now() > giveUpAt) throw error;
    }
    await sleep(RETRY_MS);
  }
}
