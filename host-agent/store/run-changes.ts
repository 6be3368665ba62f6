import type { DatabaseSync, StatementSync } from "node:sqlite";

import type { DiskReserve } from "./disk-reserve.ts";
import {
  COLUMNS,
  decodeRun,
  encodeChanges,
  encodeStop,
  type Run,
  type RunChanges,
  type RunRow,
} from "./run.ts";
import { isWithoutSpace } from "./sqlite-errors.ts";

/** What a change compares: everything of a live run that another agent may change. */
const UNCHANGED = `run_id = :run_id AND ended_at IS NULL AND status = :was_status AND pid IS :was_pid
  AND stop_cause IS :was_stop_cause AND stop_signal IS :was_stop_signal AND stop_sent = :was_stop_sent
  AND stop_deadline IS :was_stop_deadline AND stop_escalated = :was_stop_escalated`;

function comparedColumns({ runId, status, process, stop }: Run) {
  const columns = encodeStop(stop);
  return {
    run_id: runId,
    was_status: status,
    was_pid: process?.pid ?? null,
    was_stop_cause: columns.stop_cause,
    was_stop_signal: columns.stop_signal,
    was_stop_sent: columns.stop_sent,
    was_stop_deadline: columns.stop_deadline,
    was_stop_escalated: columns.stop_escalated,
  };
}

/** The changes of runs that were launched. */
export function runChanges(db: DatabaseSync, reserve: DiskReserve) {
  const selectById = db.prepare(`SELECT ${COLUMNS} FROM runs WHERE run_id = :run_id`);
  const read = (runId: string): Run => decodeRun(selectById.get({ run_id: runId }) as unknown as RunRow);

  const updates = new Map<string, StatementSync>();
  function updateOf(columns: readonly string[]): StatementSync {
    const sets = columns.map((column) => `${column} = :${column}`).join(", ");
    const statement = updates.get(sets) ?? db.prepare(`UPDATE runs SET ${sets} WHERE ${UNCHANGED}`);
    updates.set(sets, statement);
    return statement;
  }

  /** On a full disk, once more with the space of the reserve; not within a transaction, all of which is to be done again. */
  function withReserve<T>(write: () => T): T {
    // Asked before: the error may be that SQLite has rolled the transaction back (sqlite.org/lang_transaction.html, 3.1).
    const { isTransaction } = db;
    try {
      return write();
    } catch (error) {
      if (!isWithoutSpace(error) || isTransaction || !reserve.release()) throw error;
      return write();
    }
  }

  return {
    /**
     * Compare-and-set: changes a run that still is as `known` has it, and returns it as it is then; undefined when it
     * has ended, was forgotten or was changed meanwhile, and then nothing is written.
     */
    change(known: Run, changes: RunChanges): Run | undefined {
      const columns = encodeChanges(changes);
      const update = updateOf(Object.keys(columns));
      const values = { ...columns, ...comparedColumns(known) };
      const { changes: changed } = withReserve(() => update.run(values));
      return Number(changed) === 0 ? undefined : read(known.runId);
    },
  };
}
