import type { DatabaseSync } from "node:sqlite";

/** Runs work as one transaction that holds the write lock: all its writes or, when it throws, none. */
export type Transaction = <T>(work: () => T) => T;

/** Within another one, a transaction is a part of that. */
export function transactions(db: DatabaseSync): Transaction {
  return (work) => {
    if (db.isTransaction) return work();
    db.exec("BEGIN IMMEDIATE");
    try {
      const result = work();
      db.exec("COMMIT");
      return result;
    } catch (error) {
      if (db.isTransaction) db.exec("ROLLBACK");
      throw error;
    }
  };
}

/**
 * Runs work, outside of a transaction, whose writes a loss of power may undo: it does not wait for the disk. For what is
 * found again, or done again, after that.
 */
export function withoutSync<T>(db: DatabaseSync, work: () => T): T {
  db.exec("PRAGMA synchronous = NORMAL");
  try {
    return work();
  } finally {
    db.exec("PRAGMA synchronous = FULL");
  }
}
