import type { DatabaseSync } from "node:sqlite";

import { rememberEndedRuns } from "./ended-runs.ts";
import type { ListQuery } from "./list-query.ts";
import { limitsRuns, reachPages } from "./reach-pages.ts";
import { COLUMNS, decodeRun, type Run, type RunRow } from "./run.ts";

/** A page of a list. */
export interface RunPage {
  runs: Run[];
  /** The sequence number that the next page begins before, or after where the oldest come first; undefined on the last page. */
  next: number | undefined;
}

/**
 * A page ends at the run with which its texts exceed this, in UTF-16 units: quoted and escaped, a command line
 * can take a quarter of a megabyte, and the edge refuses an answer of more than 64 MiB.
 */
const MAX_PAGE_TEXT = 2_097_152;

/** This number of runs is looked at for the time of the boot: few enough to be read in each round that would delete something. */
const NEWEST_RUNS = 1_000;

/** Reads of the table `runs`. None waits for a writer. */
export function runQueries(db: DatabaseSync) {
  const selectById = db.prepare(`SELECT ${COLUMNS} FROM runs WHERE run_id = :run_id`);
  const selectSeq = db.prepare("SELECT seq FROM runs WHERE run_id = ?");
  const selectByToken = db.prepare(`SELECT ${COLUMNS} FROM runs WHERE launch_token = :token`);
  const selectNewestSeq = db.prepare("SELECT max(seq) AS seq FROM runs");
  const selectEarliestBoot = db.prepare(
    `SELECT min(started_at - started_uptime) AS at
      FROM (SELECT started_at, started_uptime, boot_id FROM runs ORDER BY seq DESC LIMIT ${NEWEST_RUNS})
      WHERE boot_id = :boot_id AND started_uptime IS NOT NULL`,
  );
  const selectAlive = db.prepare(`SELECT ${COLUMNS} FROM runs WHERE ended_at IS NULL ORDER BY seq`);
  const selectAliveAfter = db.prepare(
    `SELECT ${COLUMNS} FROM runs INDEXED BY runs_alive WHERE ended_at IS NULL AND seq > :seq ORDER BY seq LIMIT :limit`,
  );
  const selectUnsettled = db.prepare(
    `SELECT ${COLUMNS} FROM runs INDEXED BY runs_unsettled
      WHERE ended_at IS NULL AND (status <> 'running' OR stop_cause IS NOT NULL) ORDER BY seq`,
  );
  const selectOverTime = db.prepare(
    `SELECT ${COLUMNS} FROM runs INDEXED BY runs_by_time_limit
      WHERE ended_at IS NULL AND timeout_seconds IS NOT NULL AND stop_cause IS NULL
        AND started_uptime + timeout_seconds * 1000 < :uptime
      ORDER BY started_uptime + timeout_seconds * 1000 LIMIT :limit`,
  );
  const selectAliveWithLog = db.prepare(
    "SELECT 1 FROM runs INDEXED BY runs_alive_by_log WHERE ended_at IS NULL AND log_path = :log_path",
  );
  const countAlive = db.prepare("SELECT count(*) AS n FROM runs WHERE ended_at IS NULL");
  const countAliveOfRecipe = db.prepare(
    `SELECT count(*) AS n FROM runs INDEXED BY runs_alive_by_recipe
      WHERE ended_at IS NULL AND recipe_id = :recipe_id`,
  );
  const selectLimitedEndedSince = db.prepare(
    `SELECT ${COLUMNS} FROM runs WHERE ended_at >= :time AND log_limit IS NOT NULL`,
  );
  const list = lists(db);
  // It reads the index only.
  const ended = rememberEndedRuns(
    ({ runId, seq }) => (selectSeq.get(runId) as { seq: number } | undefined)?.seq === seq,
  );

  return {
    /** The run now; one that has ended, and that another agent removes, for a second longer. */
    get(runId: string): Run | undefined {
      const known = ended.get(runId);
      if (known !== undefined) return known;
      const run = decodeOne(selectById.get({ run_id: runId }));
      if (run !== undefined) ended.note(run);
      return run;
    },

    /** To be called when this agent removes a run. */
    forgetEnded: ended.forget,

    /** The run that holds this token, however old it is. */
    findByToken(token: string): Run | undefined {
      return decodeOne(selectByToken.get({ token }));
    },

    /** The sequence number of the run that was launched last; 0 without any run. */
    newestSeq(): number {
      return (selectNewestSeq.get() as { seq: number | null }).seq ?? 0;
    },

    /**
     * When this boot of the host began, in epoch milliseconds, by the wall clock at the starts of its newest runs: the
     * earliest that one of them makes it, undefined without any. A later one is of a clock that was set ahead since.
     */
    earliestBoot(bootId: string): number | undefined {
      const { at } = selectEarliestBoot.get({ boot_id: bootId }) as { at: number | null };
      return at ?? undefined;
    },

    /** True when a run that has not ended, of any agent, has its log at `path`: the file may not exist yet. */
    isLogTaken(path: string): boolean {
      return selectAliveWithLog.get({ log_path: path }) !== undefined;
    },

    /** A page of runs, newest first: at most `limit`, fewer when their texts are long. */
    list,

    /** Every run of which something may be alive, oldest first. */
    alive(): Run[] {
      return decodeAll(selectAlive.all());
    },

    /** The next `limit` runs of which something may be alive and that were launched after the one with this sequence number, oldest first. */
    aliveAfter(seq: number, limit: number): RunPage {
      const rows = selectAliveAfter.all({ seq, limit }) as unknown as RunRow[];
      return { runs: decodeAll(rows), next: rows.length < limit ? undefined : rows.at(-1)!.seq };
    },

    /** Runs that may be alive and are more than running: being launched, or with a stop that was ordered. Costs nothing for others. */
    unsettled(): Run[] {
      return decodeAll(selectUnsettled.all());
    },

    /**
     * Runs without a stop whose time limit is over by the time since the boot, in milliseconds, the longest over first. A
     * run of another boot, or of a version that recorded no such time, may be missing or come too early.
     */
    overTime(uptime: number, limit: number): Run[] {
      return decodeAll(selectOverTime.all({ uptime, limit }));
    },

    countAlive(): number {
      return (countAlive.get() as { n: number }).n;
    },

    /** How many runs of this recipe may be alive. */
    countAliveOfRecipe(recipeId: string): number {
      return (countAliveOfRecipe.get({ recipe_id: recipeId }) as { n: number }).n;
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
  function rowsOf({ source, status, label, before = Number.MAX_SAFE_INTEGER, limit }: ListQuery) {
    // One more than the page has: whether it exists says whether there is another page.
    const these = { source, before, limit: limit + 1 };
    if (status === "running") return running.iterate({ ...these, label: label ?? null });
    if (label !== undefined && status !== undefined)
      return byLabelAndStatus.iterate({ ...these, label, status });
    if (label !== undefined) return byLabel.iterate({ ...these, label });
    if (status !== undefined) return byStatus.iterate({ ...these, status });
    return all.iterate(these);
  }
  const within = reachPages(db);
  return (query: ListQuery): RunPage => {
    const { reach, source } = query;
    const rows = limitsRuns(reach, source) ? within({ ...query, reach }) : rowsOf(query);
    return pageOf(rows as Iterable<RunRow>, query.limit);
  };
}

function pageOf(rows: Iterable<RunRow>, limit: number): RunPage {
  const page: RunRow[] = [];
  let text = 0;
  let isMore = false;
  for (const row of rows) {
    isMore = page.length === limit || text > MAX_PAGE_TEXT;
    if (isMore) break;
    page.push(row);
    text += row.spec.length + row.cmd.length;
  }
  return { runs: decodeAll(page), next: isMore ? page.at(-1)!.seq : undefined };
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
