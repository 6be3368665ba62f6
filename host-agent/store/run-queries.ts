import type { DatabaseSync } from "node:sqlite";

import type { RunStatus, Source } from "../protocol/run.ts";
import { COLUMNS, decodeRun, type Run, type RunRow } from "./run.ts";

export interface ListQuery {
  source: Source;
  status?: RunStatus | undefined;
  label?: string | undefined;
  /** Only runs older than this sequence number. */
  before?: number | undefined;
  limit: number;
}

/** Reads of the table `runs`. None waits for a writer. */
export function runQueries(db: DatabaseSync) {
  const selectById = db.prepare(`SELECT ${COLUMNS} FROM runs WHERE run_id = :run_id`);
  const selectByToken = db.prepare(`SELECT ${COLUMNS} FROM runs WHERE launch_token = :token`);
  const selectNewest = db.prepare(`SELECT ${COLUMNS} FROM runs ORDER BY seq DESC LIMIT 1`);
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
    `SELECT ${COLUMNS} FROM runs WHERE ended_at < :time ORDER BY runs.ended_at LIMIT :limit`,
  );
  const selectLimitedEndedSince = db.prepare(
    `SELECT ${COLUMNS} FROM runs WHERE ended_at >= :time AND log_limit IS NOT NULL`,
  );
  const list = lists(db);

  return {
    get(runId: string): Run | undefined {
      return decodeOne(selectById.get({ run_id: runId }));
    },

    /** The run that holds this token, however old it is. */
    findByToken(token: string): Run | undefined {
      return decodeOne(selectByToken.get({ token }));
    },

    /** The run that was launched last. */
    newest(): Run | undefined {
      return decodeOne(selectNewest.get());
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

export function decodeOne(row: unknown): Run | undefined {
  return row === undefined ? undefined : decodeRun(row as RunRow);
}
