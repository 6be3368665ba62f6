import { auditHeadStore } from "./audit-head.ts";
import { callbackStore } from "./callback-store.ts";
import { type DiskReserve, NO_RESERVE } from "./disk-reserve.ts";
import { launchWrites } from "./launch-writes.ts";
import { openDatabase } from "./migrations.ts";
import { runChanges } from "./run-changes.ts";
import { retentionStore } from "./retention-store.ts";
import { runQueries } from "./run-queries.ts";
import { transactions } from "./transaction.ts";

// The room `store/`: what the agent keeps, in SQLite. Nobody outside it sees a row, a 0/1 flag or JSON text. It may
// import system/, protocol/ and the types of the port executor/executor.ts.

export type RunStore = ReturnType<typeof openRunStore>;

/**
 * Every run the agent has ever launched, in SQLite at `path` (`:memory:` for
 * tests). A write is on the disk when its call returns (WAL, synchronous=FULL),
 * but for `markRunning` and what retention writes. A reader never waits for a writer. Throws ConfigError when the file cannot be used.
 */
export function openRunStore(path: string, reserve: DiskReserve = NO_RESERVE) {
  const db = openDatabase(path);
  const transaction = transactions(db);
  const { forgetEnded, ...queries } = runQueries(db);
  return {
    ...queries,
    ...launchWrites(db, transaction),
    ...runChanges(db, reserve),
    ...retentionStore(db, { transaction, onRemoved: forgetEnded }),
    ...auditHeadStore(db),
    /** The callbacks of the runs in this database. */
    callbacks: callbackStore(db),
    /**
     * Runs `work` as one transaction that holds the database's write lock: all its writes are one write to the disk, or
     * none when it throws. Only for what writes: other agents on this state folder wait meanwhile.
     */
    inOneWrite: transaction,
    /** Takes the space for what must be written on a full disk again, if it was used and the disk has it. */
    refillReserve: reserve.refill,
    close(): void {
      db.close();
    },
  };
}
