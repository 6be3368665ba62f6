import type { SQLInputValue, StatementSync } from "node:sqlite";

import { callbackStore } from "./callback-store.ts";
import type { ProcessIdentity } from "../executor/process-identity.ts";
import type { RunStatus, Source } from "../protocol/run.ts";
import { openDatabase } from "./migrations.ts";

/** A run as it is kept. Times are epoch milliseconds. */
export interface StoredRun {
  seq: number;
  run_id: string;
  source: Source;
  /** JSON of the spec that was asked for. */
  spec: string;
  cmd: string;
  log_path: string;
  key_name: string;
  spec_sha256: string | null;
  label: string | null;
  /** `launching` until the process is known; then as in the API. */
  status: RunStatus | "launching";
  status_reason: string;
  exit_code: number | null;
  signal: string | null;
  started_at: number;
  /** Null while anything of the run may be alive. */
  ended_at: number | null;
  pid: number | null;
  pid_start: string | null;
  boot_id: string | null;
  launch_token: string | null;
  fingerprint: string;
  /** JSON of the ProcessIdentity of the agent that launches it. */
  launcher: string;
  /** Why the agent stops the run, if it does. */
  stop_cause: "kill" | "timeout" | "log_limit" | null;
  stop_signal: string | null;
  /** The API key that asked for it. */
  stop_key_name: string | null;
  /** 1 once the signal has been sent to the live run. */
  stop_sent: number;
  /** When SIGKILL follows, if it does. */
  stop_deadline: number | null;
  /** 1 once SIGKILL has followed. */
  stop_escalated: number;
  timeout_seconds: number | null;
  /** The log shows so many bytes of the run's own at most; null for no limit. Never changes: clients hold offsets. */
  log_limit: number | null;
  /** Device and inode of the log that was created for the run; null when that is not known. */
  log_file: string | null;
}

export interface NewRun extends Pick<
  StoredRun,
  | "run_id"
  | "source"
  | "spec"
  | "cmd"
  | "log_path"
  | "key_name"
  | "spec_sha256"
  | "label"
  | "started_at"
  | "fingerprint"
  | "timeout_seconds"
  | "log_limit"
> {
  launch_token: string;
  launcher: ProcessIdentity;
  /** Who is told the run's end. */
  callback_url: string | undefined;
}

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
 * but for `markRunning`. Throws ConfigError when the file cannot be used.
 */
export function openRunStore(path: string) {
  const db = openDatabase(path);

  const selectById = db.prepare("SELECT * FROM runs WHERE run_id = ?");
  const selectByToken = db.prepare("SELECT * FROM runs WHERE launch_token = ?");
  const selectAlive = db.prepare("SELECT * FROM runs WHERE ended_at IS NULL ORDER BY seq");
  const selectLaunchingWithLog = db.prepare(
    "SELECT 1 FROM runs WHERE source IN ('pipeline', 'script') AND status = 'launching' AND log_path = ?",
  );
  const freeToken = db.prepare("UPDATE runs SET launch_token = NULL WHERE launch_token = ?");
  const countAlive = db.prepare("SELECT count(*) AS n FROM runs WHERE ended_at IS NULL");
  const insert = db.prepare(`
    INSERT INTO runs (run_id, source, spec, cmd, log_path, key_name, spec_sha256, status, status_reason,
      started_at, launch_token, fingerprint, launcher, timeout_seconds, log_limit, label)
    VALUES (?, ?, ?, ?, ?, ?, ?, 'launching', 'The command is being started.', ?, ?, ?, ?, ?, ?, ?)`);
  const setRunning = db.prepare(`
    UPDATE runs SET status = 'running', status_reason = ?, pid = ?, pid_start = ?, boot_id = ?, log_file = ?
    WHERE run_id = ? AND ended_at IS NULL`);
  const selectEndedBefore = db.prepare("SELECT * FROM runs WHERE ended_at < ? ORDER BY ended_at LIMIT ?");
  const selectLimitedEndedSince = db.prepare(
    "SELECT * FROM runs WHERE ended_at >= ? AND log_limit IS NOT NULL",
  );
  const deleteEnded = db.prepare("DELETE FROM runs WHERE run_id = ? AND ended_at IS NOT NULL");
  const selectHead = db.prepare("SELECT seq, hash FROM audit_head");
  const upsertHead = db.prepare(`
    INSERT INTO audit_head (id, seq, hash) VALUES (1, ?, ?)
    ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash WHERE excluded.seq > audit_head.seq`);
  const insertCallback = db.prepare("INSERT INTO callbacks (run_id, url) VALUES (?, ?)");
  const dropCallback = db.prepare("DELETE FROM callbacks WHERE run_id = ?");
  const lists = {
    all: db.prepare("SELECT * FROM runs WHERE source = ? AND seq < ? ORDER BY seq DESC LIMIT ?"),
    byStatus: db.prepare(
      "SELECT * FROM runs WHERE source = ? AND status = ? AND seq < ? ORDER BY seq DESC LIMIT ?",
    ),
    byLabel: db.prepare(
      `SELECT * FROM runs INDEXED BY runs_by_label
        WHERE source = ? AND label = ? AND seq < ? ORDER BY seq DESC LIMIT ?`,
    ),
    byLabelAndStatus: db.prepare(
      `SELECT * FROM runs INDEXED BY runs_by_label_and_status
        WHERE source = ? AND label = ? AND status = ? AND seq < ? ORDER BY seq DESC LIMIT ?`,
    ),
    running: db.prepare(
      // By the index of the runs that are alive: a run that is running has not ended.
      `SELECT * FROM runs INDEXED BY runs_alive WHERE ended_at IS NULL AND source = ?
        AND status IN ('running', 'launching') AND label IS coalesce(?, label) AND seq < ?
        ORDER BY seq DESC LIMIT ?`,
    ),
  };

  const updates = new Map<string, StatementSync>();
  function updateOf(columns: string[]): StatementSync {
    const sets = columns.map((column) => `${column} = ?`).join(", ");
    const statement =
      updates.get(sets) ?? db.prepare(`UPDATE runs SET ${sets} WHERE run_id = ? AND ended_at IS NULL`);
    updates.set(sets, statement);
    return statement;
  }

  /** Within another one, it is a part of that. */
  function transaction<T>(work: () => T): T {
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
  }

  return {
    get(runId: string): StoredRun | undefined {
      return selectById.get(runId) as StoredRun | undefined;
    },

    /** The run that holds this token and started at or after `notBefore`. */
    findByToken(token: string, notBefore: number): StoredRun | undefined {
      const run = selectByToken.get(token) as StoredRun | undefined;
      return run && run.started_at >= notBefore ? run : undefined;
    },

    /** Whether a run is being started, by whichever agent, whose log is to be at `path`: it may not be there yet. */
    isLaunchingWithLog(logPath: string): boolean {
      return selectLaunchingWithLog.get(logPath) !== undefined;
    },

    /**
     * Records a launch, or returns the run that already holds the token: the
     * one decision that makes a launch happen at most once. An older holder
     * than `notBefore` loses the token. `refuse` runs inside the transaction and may throw.
     */
    insertOrFind(run: NewRun, notBefore: number, refuse: () => void): { run: StoredRun; isNew: boolean } {
      return transaction(() => {
        const holder = selectByToken.get(run.launch_token) as StoredRun | undefined;
        if (holder && holder.started_at >= notBefore) return { run: holder, isNew: false };
        refuse();
        if (holder) freeToken.run(run.launch_token);
        insert.run(
          run.run_id,
          run.source,
          run.spec,
          run.cmd,
          run.log_path,
          run.key_name,
          run.spec_sha256,
          run.started_at,
          run.launch_token,
          run.fingerprint,
          JSON.stringify(run.launcher),
          run.timeout_seconds,
          run.log_limit,
          run.label,
        );
        if (run.callback_url !== undefined) insertCallback.run(run.run_id, run.callback_url);
        return { run: selectById.get(run.run_id) as unknown as StoredRun, isNew: true };
      });
    },

    /** Changes a run that has not ended; a run that has ended stays as it is. Returns the row as it is then. */
    update(runId: string, changes: Partial<Omit<StoredRun, "seq" | "run_id">>): StoredRun {
      updateOf(Object.keys(changes)).run(...(Object.values(changes) as SQLInputValue[]), runId);
      return selectById.get(runId) as unknown as StoredRun;
    },

    /** Records that a launch started nothing: its token may start another, and nobody is told its end. */
    failLaunch(runId: string, failure: { status_reason: string; ended_at: number }): StoredRun {
      return transaction(() => {
        const { started_at } = selectById.get(runId) as unknown as StoredRun;
        // The clock may have been set back in between.
        const ended_at = Math.max(failure.ended_at, started_at);
        const changes = { status: "failed", ...failure, ended_at, launch_token: null };
        const { changes: changed } = updateOf(Object.keys(changes)).run(...Object.values(changes), runId);
        // Of a run that has ended by now somebody waits to be told.
        if (Number(changed) > 0) dropCallback.run(runId);
        return selectById.get(runId) as unknown as StoredRun;
      });
    },

    /**
     * Records the process of a launched run. It outlives every crash of ours, but
     * perhaps not a loss of power: then the process is gone too, and the run's
     * folder tells what became of it.
     */
    markRunning(
      runId: string,
      process: ProcessIdentity,
      logFile: string | null,
      statusReason: string,
    ): StoredRun {
      db.exec("PRAGMA synchronous = NORMAL");
      try {
        setRunning.run(statusReason, process.pid, process.startTime, process.bootId, logFile, runId);
      } finally {
        db.exec("PRAGMA synchronous = FULL");
      }
      return selectById.get(runId) as unknown as StoredRun;
    },

    /** Newest first. */
    list({ source, status, label, before, limit }: ListQuery): StoredRun[] {
      const seq = before ?? Number.MAX_SAFE_INTEGER;
      if (status === "running") return rows(lists.running.all(source, label ?? null, seq, limit));
      if (label !== undefined && status !== undefined)
        return rows(lists.byLabelAndStatus.all(source, label, status, seq, limit));
      if (label !== undefined) return rows(lists.byLabel.all(source, label, seq, limit));
      if (status === undefined) return rows(lists.all.all(source, seq, limit));
      return rows(lists.byStatus.all(source, status, seq, limit));
    },

    /** Every run of which something may be alive, oldest first. */
    alive(): StoredRun[] {
      return rows(selectAlive.all());
    },

    /** The callbacks of the runs in this database. */
    callbacks: callbackStore(db),

    countAlive(): number {
      return (countAlive.get() as { n: number }).n;
    },

    /** Runs that ended before `time`, the longest ended first. */
    endedBefore(time: number, limit: number): StoredRun[] {
      return rows(selectEndedBefore.all(time, limit));
    },

    /** Runs with a log limit that ended at or after `time`. */
    limitedEndedSince(time: number): StoredRun[] {
      return rows(selectLimitedEndedSince.all(time));
    },

    /** Forgets a run that has ended; one that has not stays. False when it was not there any more, or stays. */
    remove(runId: string): boolean {
      return Number(deleteEnded.run(runId).changes) > 0;
    },

    /** Runs `work` while no other agent on this state folder does, and none of them writes here. */
    exclusively<T>(work: () => T): T {
      return transaction(work);
    },

    auditHead(): AuditHead | undefined {
      return selectHead.get() as AuditHead | undefined;
    },

    setAuditHead({ seq, hash }: AuditHead): void {
      upsertHead.run(seq, hash);
    },

    close(): void {
      db.close();
    },
  };
}

function rows(found: unknown[]): StoredRun[] {
  return found as StoredRun[];
}
