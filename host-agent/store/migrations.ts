import { DatabaseSync } from "node:sqlite";

import { ConfigError } from "../system/config-error.ts";
import { isDamaged } from "./sqlite-errors.ts";

/**
 * The steps from an empty database to the present one, in order. A step that
 * was released never changes; a change of the schema is one step more.
 */
export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE runs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    spec TEXT NOT NULL,
    cmd TEXT NOT NULL,
    log_path TEXT NOT NULL,
    key_name TEXT NOT NULL,
    spec_sha256 TEXT,
    status TEXT NOT NULL,
    status_reason TEXT NOT NULL,
    exit_code INTEGER,
    signal TEXT,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    pid INTEGER,
    pid_start TEXT,
    boot_id TEXT,
    launch_token TEXT UNIQUE,
    fingerprint TEXT NOT NULL,
    launcher TEXT NOT NULL,
    stop_cause TEXT,
    stop_signal TEXT,
    stop_key_name TEXT,
    stop_sent INTEGER NOT NULL DEFAULT 0,
    stop_deadline INTEGER,
    stop_escalated INTEGER NOT NULL DEFAULT 0,
    timeout_seconds INTEGER
  ) STRICT;
  CREATE INDEX runs_by_source ON runs (source, seq);
  CREATE INDEX runs_by_status ON runs (source, status, seq);
  CREATE INDEX runs_alive ON runs (seq) WHERE ended_at IS NULL;
  `,
  `
  ALTER TABLE runs ADD COLUMN log_limit INTEGER;
  ALTER TABLE runs ADD COLUMN log_file TEXT;
  CREATE INDEX runs_ended ON runs (ended_at) WHERE ended_at IS NOT NULL;
  CREATE TABLE audit_head (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL) STRICT;
  `,
  `
  ALTER TABLE runs ADD COLUMN label TEXT;
  CREATE INDEX runs_by_label ON runs (source, label, seq) WHERE label IS NOT NULL;
  CREATE INDEX runs_by_label_and_status ON runs (source, label, status, seq) WHERE label IS NOT NULL;
  CREATE TABLE callbacks (
    run_id TEXT PRIMARY KEY REFERENCES runs (run_id) ON DELETE CASCADE,
    url TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending',
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER DEFAULT 0,
    give_up_at INTEGER,
    last_result TEXT
  ) STRICT;
  CREATE INDEX callbacks_pending ON callbacks (next_attempt_at) WHERE next_attempt_at IS NOT NULL;
  `,
  // Generated, so that no row is rewritten, and rows of an earlier version that still runs have it too.
  `
  ALTER TABLE runs ADD COLUMN recipe_id TEXT GENERATED ALWAYS AS
    (CASE WHEN source = 'pipeline' AND json_valid(spec) THEN json_extract(spec, '$.recipe_id') END) VIRTUAL;
  CREATE INDEX runs_alive_by_recipe ON runs (recipe_id) WHERE ended_at IS NULL;
  CREATE INDEX runs_alive_by_log ON runs (log_path) WHERE ended_at IS NULL;
  `,
  // Milliseconds since the boot of the host: durations within a boot do not depend on a clock that may be set.
  `
  ALTER TABLE runs ADD COLUMN started_uptime INTEGER;
  ALTER TABLE runs ADD COLUMN stop_deadline_uptime INTEGER;
  `,
  // Retention: how long a recipe keeps its runs, and what the logs of ended runs add up to. The sum is kept by triggers, so
  // that it is right whichever version of the agent forgets a run.
  `
  ALTER TABLE runs ADD COLUMN keep_days INTEGER;
  ALTER TABLE runs ADD COLUMN log_bytes INTEGER;
  CREATE INDEX runs_kept_by_setting ON runs (ended_at) WHERE ended_at IS NOT NULL AND keep_days IS NULL;
  CREATE INDEX runs_kept_by_recipe ON runs (ended_at + keep_days * 86400000)
    WHERE ended_at IS NOT NULL AND keep_days > 0;
  CREATE INDEX runs_unmeasured ON runs (ended_at)
    WHERE ended_at IS NOT NULL AND log_bytes IS NULL AND log_file IS NOT NULL;
  CREATE INDEX runs_with_log ON runs (ended_at) WHERE log_bytes > 0;
  CREATE TABLE ended_logs (id INTEGER PRIMARY KEY CHECK (id = 1), bytes INTEGER NOT NULL) STRICT;
  INSERT INTO ended_logs VALUES (1, 0);
  CREATE TRIGGER log_measured AFTER UPDATE OF log_bytes ON runs BEGIN
    UPDATE ended_logs SET bytes = bytes + coalesce(new.log_bytes, 0) - coalesce(old.log_bytes, 0);
  END;
  CREATE TRIGGER log_forgotten AFTER DELETE ON runs WHEN old.log_bytes > 0 BEGIN
    UPDATE ended_logs SET bytes = bytes - old.log_bytes;
  END;
  `,
  // A run of an earlier version has no cgroup.
  `
  ALTER TABLE runs ADD COLUMN cgroup TEXT;
  ALTER TABLE runs ADD COLUMN kill_left_behind INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE runs ADD COLUMN left_behind INTEGER;
  ALTER TABLE runs ADD COLUMN cpu_usec INTEGER;
  ALTER TABLE runs ADD COLUMN memory_peak INTEGER;
  `,
  // What supervision asks each second: each index holds only the runs that have something to be done for.
  `
  CREATE INDEX runs_unsettled ON runs (seq)
    WHERE ended_at IS NULL AND (status <> 'running' OR stop_cause IS NOT NULL);
  CREATE INDEX runs_by_time_limit ON runs (started_uptime + timeout_seconds * 1000)
    WHERE ended_at IS NULL AND timeout_seconds IS NOT NULL AND stop_cause IS NULL;
  `,
  // What keys with a reach ask: reach-pages.ts says how each index is used. The target is generated, so that no row is rewritten; a
  // script of an earlier version has the target /, which no pattern of paths matches.
  `
  ALTER TABLE runs ADD COLUMN script_path TEXT;
  ALTER TABLE runs ADD COLUMN target TEXT GENERATED ALWAYS AS
    (CASE source WHEN 'pipeline' THEN coalesce(recipe_id, '') ELSE coalesce(script_path, '/') END) VIRTUAL;
  CREATE INDEX runs_by_key ON runs (source, key_name, status, seq);
  CREATE INDEX runs_by_target ON runs (source, target, key_name, status, seq);
  CREATE INDEX runs_by_label_and_target ON runs (source, label, target, key_name, status, seq)
    WHERE label IS NOT NULL;
  `,
];

/** A check of the whole database reads all of it. Up to this many pages of 4,096 bytes that takes some tens of milliseconds. */
const MAX_CHECKED_PAGES = 4_096;

/**
 * Opens the database of the runs at `path`, made or brought to the present schema first. Throws ConfigError when it
 * cannot be used, is damaged, or was written by a later version.
 */
export function openDatabase(path: string): DatabaseSync {
  let db: DatabaseSync | undefined;
  try {
    db = new DatabaseSync(path, { timeout: 5_000 });
    // The cache is bounded (8 MiB), and no page is mapped: what is resident does not depend on how many runs are stored.
    db.exec(
      "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA mmap_size = 0; PRAGMA cache_size = -8192;",
    );
    migrate(db, path);
    checkWhole(db);
    return db;
  } catch (error) {
    db?.close();
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(
      `HUB_STATE_DIR: ${path} ${isDamaged(error) ? DAMAGED : UNUSABLE}: ${String(error)}`,
    );
  }
}

const DAMAGED =
  "is damaged, and without it the runs are unknown. Restore it from a backup; or move it, its -wal and its -shm " +
  "away to begin without any runs: the logs stay, and what is still running goes on unsupervised";
const UNUSABLE = "cannot be used";

/**
 * Throws when a page of the database is not what it should be: later it would fail in the middle of a launch. A large
 * database is not read whole, so that a start takes the same time among any number of runs; that its file is as long as its header
 * says, SQLite checks itself.
 */
function checkWhole(db: DatabaseSync): void {
  const { page_count } = db.prepare("PRAGMA page_count").get() as { page_count: number };
  if (page_count > MAX_CHECKED_PAGES) return;
  const { quick_check } = db.prepare("PRAGMA quick_check(1)").get() as { quick_check: string };
  if (quick_check !== "ok") throw Object.assign(new Error(quick_check), { errcode: 11 });
}

/** Takes the database to the present schema: wholly, or not at all. */
function migrate(db: DatabaseSync, path: string): void {
  if (versionOf(db) === MIGRATIONS.length) return;
  db.exec("BEGIN IMMEDIATE");
  try {
    // Asked again: another agent may have been quicker.
    const version = versionOf(db);
    if (version > MIGRATIONS.length) {
      throw new ConfigError(
        `HUB_STATE_DIR: ${path} has schema version ${version}, this program knows ${MIGRATIONS.length}: start the version that wrote it`,
      );
    }
    for (const step of MIGRATIONS.slice(version)) db.exec(step);
    db.exec(`PRAGMA user_version = ${MIGRATIONS.length}; COMMIT`);
  } catch (error) {
    if (db.isTransaction) db.exec("ROLLBACK");
    throw error;
  }
}

function versionOf(db: DatabaseSync): number {
  return (db.prepare("PRAGMA user_version").get() as { user_version: number }).user_version;
}
