import type { DatabaseSync, StatementSync } from "node:sqlite";

import type { RunStatus, Source } from "../protocol/run.ts";
import { callbackStore } from "./callback-store.ts";
import { openDatabase } from "./migrations.ts";
import {
  decodeRun,
  encodeChanges,
  encodeNewRun,
  encodeStop,
  COLUMNS,
  type NewRun,
  type Run,
  type RunChanges,
  type RunProcess,
  type RunRow,
} from "./run.ts";

/** The last line of the audit log: its number, and its SHA-256. */
export interface AuditHead {
  seq: number;
  hash: string;
}

export interface ListQuery {
  source: Source;
  status?: RunStatus | undefined;
  label?: string | undefined;
  /** Only runs older than this sequence number. */
  before?: number | undefined;
  limit: number;
}

export type RunStore = ReturnType<typeof openRunStore>;

/**
 * Every run the agent has ever launched, in SQLite at `path` (`:memory:` for
 * tests). A write is on the disk when its call returns (WAL, synchronous=FULL),
 * but for `markRunning`. A reader never waits for a writer. Throws ConfigError when the file cannot be used.
 */
export function openRunStore(path: string) {
  const db = openDatabase(path);
  const transaction = transactions(db);
  return {
    ...reads(db),
    ...writes(db, transaction),
    ...auditHead(db),
    /** The callbacks of the runs in this database. */
    callbacks: callbackStore(db),
    /**
     * Runs `work` as one transaction that holds the database's write lock: all its writes are one write to the disk, or
     * none when it throws. Only for what writes: other agents on this state folder wait meanwhile.
     */
    inOneWrite: transaction,
    close(): void {
      db.close();
    },
  };
}

type Transaction = <T>(work: () => T) => T;

/** Within another one, a transaction is a part of that. */
function transactions(db: DatabaseSync): Transaction {
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

/** A row that is damaged costs that row, and not the list or the start. */
function decodeAll(rows: unknown[]): Run[] {
  const runs: Run[] = [];
  for (const row of rows as RunRow[]) {
    try {
      runs.push(decodeRun(row));
    } catch {
      // Its JSON is not whole: `get` of this run reports it.
    }
  }
  return runs;
}

function decodeOne(row: unknown): Run | undefined {
  return row === undefined ? undefined : decodeRun(row as RunRow);
}

function reads(db: DatabaseSync) {
  const selectById = db.prepare(`SELECT ${COLUMNS} FROM runs WHERE run_id = :run_id`);
  const selectByToken = db.prepare(`SELECT ${COLUMNS} FROM runs WHERE launch_token = :token`);
  const selectAlive = db.prepare(`SELECT ${COLUMNS} FROM runs WHERE ended_at IS NULL ORDER BY seq`);
  const selectAliveWithLog = db.prepare(
    "SELECT 1 FROM runs INDEXED BY runs_alive_by_log WHERE ended_at IS NULL AND log_path = :log_path",
  );
  const countAlive = db.prepare("SELECT count(*) AS n FROM runs WHERE ended_at IS NULL");
  const countAliveOfRecipe = db.prepare(
    `SELECT count(*) AS n FROM runs INDEXED BY runs_alive_by_recipe
      WHERE ended_at IS NULL AND recipe_id = :recipe_id`,
  );
  const selectEndedBefore = db.prepare(
    `SELECT ${COLUMNS} FROM runs WHERE ended_at < :time ORDER BY ended_at LIMIT :limit`,
  );
  const selectLimitedEndedSince = db.prepare(
    `SELECT ${COLUMNS} FROM runs WHERE ended_at >= :time AND log_limit IS NOT NULL`,
  );
  const list = lists(db);

  return {
    get(runId: string): Run | undefined {
      return decodeOne(selectById.get({ run_id: runId }));
    },

    /** The run that holds this token and started at or after `notBefore`. */
    findByToken(token: string, notBefore: number): Run | undefined {
      const run = decodeOne(selectByToken.get({ token }));
      return run && run.startedAt >= notBefore ? run : undefined;
    },

    /** True when a run that has not ended, of any agent, has its log at `path`: the file may not exist yet. */
    isLogTaken(path: string): boolean {
      return selectAliveWithLog.get({ log_path: path }) !== undefined;
    },

    /** A page of runs, newest first. */
    list,

    /** Every run of which something may be alive, oldest first. */
    alive(): Run[] {
      return decodeAll(selectAlive.all());
    },

    countAlive(): number {
      return (countAlive.get() as { n: number }).n;
    },

    /** How many runs of this recipe may be alive. */
    countAliveOfRecipe(recipeId: string): number {
      return (countAliveOfRecipe.get({ recipe_id: recipeId }) as { n: number }).n;
    },

    /** Runs that ended before `time`, the longest ended first. */
    endedBefore(time: number, limit: number): Run[] {
      return decodeAll(selectEndedBefore.all({ time, limit }));
    },

    /** Runs with a log limit that ended at or after `time`. */
    limitedEndedSince(time: number): Run[] {
      return decodeAll(selectLimitedEndedSince.all({ time }));
    },
  };
}

/** Each filter has its own statement and index, so that a page costs the same among any number of runs. */
function lists(db: DatabaseSync) {
  const page = "seq < :before ORDER BY seq DESC LIMIT :limit";
  const all = db.prepare(`SELECT ${COLUMNS} FROM runs WHERE source = :source AND ${page}`);
  const byStatus = db.prepare(
    `SELECT ${COLUMNS} FROM runs WHERE source = :source AND status = :status AND ${page}`,
  );
  const byLabel = db.prepare(
    `SELECT ${COLUMNS} FROM runs INDEXED BY runs_by_label WHERE source = :source AND label = :label AND ${page}`,
  );
  const byLabelAndStatus = db.prepare(
    `SELECT ${COLUMNS} FROM runs INDEXED BY runs_by_label_and_status
      WHERE source = :source AND label = :label AND status = :status AND ${page}`,
  );
  // A run that is running has not ended: the index of those that are alive is the shortest.
  const running = db.prepare(
    `SELECT ${COLUMNS} FROM runs INDEXED BY runs_alive WHERE ended_at IS NULL AND source = :source
      AND status IN ('running', 'launching') AND label IS coalesce(:label, label) AND ${page}`,
  );
  return ({ source, status, label, before = Number.MAX_SAFE_INTEGER, limit }: ListQuery): Run[] => {
    if (status === "running") return decodeAll(running.all({ source, label: label ?? null, before, limit }));
    if (label !== undefined && status !== undefined)
      return decodeAll(byLabelAndStatus.all({ source, label, status, before, limit }));
    if (label !== undefined) return decodeAll(byLabel.all({ source, label, before, limit }));
    if (status !== undefined) return decodeAll(byStatus.all({ source, status, before, limit }));
    return decodeAll(all.all({ source, before, limit }));
  };
}

const INSERT = `
  INSERT INTO runs (run_id, source, spec, cmd, log_path, key_name, spec_sha256, status, status_reason,
    started_at, launch_token, fingerprint, launcher, timeout_seconds, log_limit, label)
  VALUES (:run_id, :source, :spec, :cmd, :log_path, :key_name, :spec_sha256, 'launching',
    'The command is being started.', :started_at, :launch_token, :fingerprint, :launcher, :timeout_seconds,
    :log_limit, :label)`;

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

function writes(db: DatabaseSync, transaction: Transaction) {
  const selectById = db.prepare(`SELECT ${COLUMNS} FROM runs WHERE run_id = :run_id`);
  const selectByToken = db.prepare(`SELECT ${COLUMNS} FROM runs WHERE launch_token = :token`);
  const freeToken = db.prepare("UPDATE runs SET launch_token = NULL WHERE launch_token = :token");
  const insert = db.prepare(INSERT);
  const setRunning = db.prepare(`
    UPDATE runs SET status = 'running', status_reason = :reason, pid = :pid, pid_start = :pid_start, boot_id = :boot_id,
      log_file = :log_file WHERE run_id = :run_id AND ended_at IS NULL`);
  const setFailed = db.prepare(`
    UPDATE runs SET status = 'failed', status_reason = :reason, ended_at = max(:ended_at, started_at),
      launch_token = NULL WHERE run_id = :run_id AND ended_at IS NULL`);
  const deleteEnded = db.prepare("DELETE FROM runs WHERE run_id = :run_id AND ended_at IS NOT NULL");
  const insertCallback = db.prepare("INSERT INTO callbacks (run_id, url) VALUES (:run_id, :url)");
  const deleteCallback = db.prepare("DELETE FROM callbacks WHERE run_id = :run_id");
  const read = (runId: string): Run => decodeRun(selectById.get({ run_id: runId }) as unknown as RunRow);

  const updates = new Map<string, StatementSync>();
  function updateOf(columns: readonly string[]): StatementSync {
    const sets = columns.map((column) => `${column} = :${column}`).join(", ");
    const statement = updates.get(sets) ?? db.prepare(`UPDATE runs SET ${sets} WHERE ${UNCHANGED}`);
    updates.set(sets, statement);
    return statement;
  }

  return {
    /**
     * Records a launch, or returns the run that already holds the token: the
     * one decision that makes a launch happen at most once. A holder that started before
     * `notBefore` loses the token. `admit` runs inside the transaction and may throw.
     */
    insertOrFind(run: NewRun, notBefore: number, admit: () => void): { run: Run; isNew: boolean } {
      return transaction(() => {
        const holder = decodeOne(selectByToken.get({ token: run.launchToken }));
        if (holder && holder.startedAt >= notBefore) return { run: holder, isNew: false };
        admit();
        if (holder) freeToken.run({ token: run.launchToken });
        insert.run(encodeNewRun(run));
        if (run.callbackUrl !== undefined) insertCallback.run({ run_id: run.runId, url: run.callbackUrl });
        return { run: read(run.runId), isNew: true };
      });
    },

    /**
     * Compare-and-set: changes a run that still is as `known` has it, and returns it as it is then; undefined when it
     * has ended, was forgotten or was changed meanwhile, and then nothing is written.
     */
    change(known: Run, changes: RunChanges): Run | undefined {
      const columns = encodeChanges(changes);
      const { changes: changed } = updateOf(Object.keys(columns)).run({
        ...columns,
        ...comparedColumns(known),
      });
      return Number(changed) === 0 ? undefined : read(known.runId);
    },

    /** Records that a launch started nothing: its token may start another run, and its callback is dropped. */
    failLaunch(runId: string, { reason, endedAt }: { reason: string; endedAt: number }): Run {
      return transaction(() => {
        // A clock that was set back makes no run end before it started.
        const { changes } = setFailed.run({ run_id: runId, reason, ended_at: endedAt });
        // The callback of a run that has ended by now is due.
        if (Number(changes) > 0) deleteCallback.run({ run_id: runId });
        return read(runId);
      });
    },

    /**
     * Records the process of a launched run. It outlives every crash of ours, but
     * perhaps not a loss of power: then the process is gone too, and the run's
     * folder tells what became of it.
     */
    markRunning(
      runId: string,
      { process, logFile, reason }: { process: RunProcess; logFile: string | undefined; reason: string },
    ): Run {
      const { pid, startTime, bootId } = process;
      db.exec("PRAGMA synchronous = NORMAL");
      try {
        setRunning.run({
          run_id: runId,
          reason,
          pid,
          pid_start: startTime ?? null,
          boot_id: bootId ?? null,
          log_file: logFile ?? null,
        });
      } finally {
        db.exec("PRAGMA synchronous = FULL");
      }
      return read(runId);
    },

    /** Forgets a run that has ended. False when it was forgotten before, or has not ended. */
    remove(runId: string): boolean {
      return Number(deleteEnded.run({ run_id: runId }).changes) > 0;
    },
  };
}

function auditHead(db: DatabaseSync) {
  const select = db.prepare("SELECT seq, hash FROM audit_head");
  const upsert = db.prepare(`
    INSERT INTO audit_head (id, seq, hash) VALUES (1, :seq, :hash)
    ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash WHERE excluded.seq > audit_head.seq`);
  return {
    /** The last line of the audit log that was noted; undefined for none. */
    auditHead(): AuditHead | undefined {
      return select.get() as AuditHead | undefined;
    },

    /** Notes a later line; an earlier one changes nothing. */
    setAuditHead({ seq, hash }: AuditHead): void {
      upsert.run({ seq, hash });
    },
  };
}
