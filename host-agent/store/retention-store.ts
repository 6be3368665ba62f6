import type { DatabaseSync } from "node:sqlite";

import { type Transaction, withoutSync } from "./transaction.ts";

/** Of a run that has ended, what it takes to forget it: also of one whose row cannot be decoded any more. */
export interface EndedRun {
  runId: string;
  keyName: string;
  logPath: string;
  /** Device and inode of its log; undefined when no log is known. */
  logFile: string | undefined;
  /** The size of its log when it was last measured, in bytes; undefined before. */
  logBytes: number | undefined;
}

/** How large a log was found to be, in bytes. */
export interface LogSize {
  runId: string;
  bytes: number;
}

interface EndedRow {
  run_id: string;
  key_name: string;
  log_path: string;
  log_file: string | null;
  log_bytes: number | null;
}

const ENDED = "SELECT run_id, key_name, log_path, log_file, log_bytes FROM runs";

/** The statements by which runs to forget are found. Each reads its index from the first due run on, and no other. */
export const RETENTION_QUERIES = {
  keptBySetting: `${ENDED} INDEXED BY runs_kept_by_setting
    WHERE ended_at IS NOT NULL AND keep_days IS NULL AND ended_at < :time ORDER BY ended_at LIMIT :limit`,
  keptByRecipe: `${ENDED} INDEXED BY runs_kept_by_recipe
    WHERE ended_at IS NOT NULL AND keep_days > 0 AND ended_at + keep_days * 86400000 < :now
    ORDER BY ended_at + keep_days * 86400000 LIMIT :limit`,
  unmeasured: `${ENDED} INDEXED BY runs_unmeasured
    WHERE ended_at IS NOT NULL AND log_bytes IS NULL AND log_file IS NOT NULL ORDER BY ended_at LIMIT :limit`,
  withLog: `${ENDED} INDEXED BY runs_with_log
    WHERE log_bytes > 0 AND ended_at < :time
      AND NOT (instr(launcher, :boot_id) > 0 AND coalesce(started_uptime, 0) > :uptime)
      AND NOT EXISTS (SELECT 1 FROM callbacks c WHERE c.run_id = runs.run_id AND c.next_attempt_at IS NOT NULL)
    ORDER BY ended_at LIMIT :limit`,
  endedLogs: "SELECT bytes FROM ended_logs WHERE id = 1",
} as const;

/**
 * What retention asks and writes. Nothing of it waits for the disk: after a loss of power a run is forgotten again, and
 * a log measured again. `onRemoved` receives the id of each run that is removed.
 */
export function retentionStore(
  db: DatabaseSync,
  { transaction, onRemoved }: { transaction: Transaction; onRemoved(runId: string): void },
) {
  const keptBySetting = db.prepare(RETENTION_QUERIES.keptBySetting);
  const keptByRecipe = db.prepare(RETENTION_QUERIES.keptByRecipe);
  const unmeasured = db.prepare(RETENTION_QUERIES.unmeasured);
  const withLog = db.prepare(RETENTION_QUERIES.withLog);
  const endedLogs = db.prepare(RETENTION_QUERIES.endedLogs);
  const deleteEnded = db.prepare("DELETE FROM runs WHERE run_id = :run_id AND ended_at IS NOT NULL");
  const setLogBytes = db.prepare(
    "UPDATE runs SET log_bytes = :bytes WHERE run_id = :run_id AND ended_at IS NOT NULL",
  );
  const inOneWrite = <T>(work: () => T): T => withoutSync(db, () => transaction(work));

  return {
    /** Runs without days of their own that ended before `time`, the longest ended first. */
    endedBefore: (time: number, limit: number): EndedRun[] => decode(keptBySetting.all({ time, limit })),

    /** Runs whose own days are over at `now`, the longest overdue first. */
    overOwnDays: (now: number, limit: number): EndedRun[] => decode(keptByRecipe.all({ now, limit })),

    /** Ended runs whose logs were never measured, the longest ended first. */
    unmeasured: (limit: number): EndedRun[] => decode(unmeasured.all({ limit })),

    /**
     * Runs with a log of at least a byte that ended before `time`, the longest ended first: none that was launched in
     * the boot `bootId` after `uptime`, in milliseconds since that boot, and none with a callback that is to be sent yet.
     */
    endedWithLog({ time, bootId, uptime }: { time: number; bootId: string; uptime: number }, limit: number) {
      return decode(withLog.all({ time, boot_id: bootId, uptime, limit }));
    },

    /** What the logs of ended runs add up to, in bytes, as they were measured. */
    endedLogBytes: (): number => (endedLogs.get() as { bytes: number }).bytes,

    /** Records sizes of logs, with one write. */
    setLogSizes(sizes: readonly LogSize[]): void {
      if (sizes.length === 0) return;
      inOneWrite(() => {
        for (const { runId, bytes } of sizes) setLogBytes.run({ run_id: runId, bytes });
      });
    },

    /** Forgets runs that have ended, with one write. Returns the ids that were forgotten: none that was forgotten before, or has not ended. */
    removeAll(runIds: readonly string[]): Set<string> {
      runIds.forEach(onRemoved);
      return inOneWrite(
        () => new Set(runIds.filter((run_id) => Number(deleteEnded.run({ run_id }).changes) > 0)),
      );
    },
  };
}

function decode(rows: unknown[]): EndedRun[] {
  return (rows as EndedRow[]).map(({ run_id, key_name, log_path, log_file, log_bytes }) => ({
    runId: run_id,
    keyName: key_name,
    logPath: log_path,
    logFile: log_file ?? undefined,
    logBytes: log_bytes ?? undefined,
  }));
}
