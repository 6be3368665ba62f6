import type { DatabaseSync } from "node:sqlite";

/** A callback whose turn it is. Times are epoch milliseconds. */
export interface DueCallback {
  run_id: string;
  url: string;
  /** How often it was tried before. */
  attempts: number;
  next_attempt_at: number;
  give_up_at: number | null;
}

/** How a callback has ended: taken, told to stop (410), or tried for long enough. */
export type CallbackEnd = "delivered" | "refused" | "given_up";

export type CallbackStore = ReturnType<typeof callbackStore>;

const selectWhere = (due: string) => `
  SELECT c.run_id, c.url, c.attempts, c.next_attempt_at, c.give_up_at
  FROM callbacks c INDEXED BY callbacks_pending JOIN runs r ON r.run_id = c.run_id
  WHERE c.next_attempt_at IS NOT NULL AND c.next_attempt_at ${due} AND r.ended_at IS NOT NULL`;

/** The callbacks of runs, in the table `callbacks` of the runs' database. */
export function callbackStore(db: DatabaseSync) {
  const selectDue = db.prepare(
    `${selectWhere("<= :now")} UNION ALL ${selectWhere("> :latest")} ORDER BY next_attempt_at LIMIT :limit`,
  );
  const take = db.prepare(`
    UPDATE callbacks SET attempts = attempts + 1, next_attempt_at = :next, give_up_at = :give_up
    WHERE run_id = :run_id AND next_attempt_at = :due`);
  const setResult = db.prepare("UPDATE callbacks SET last_result = :result WHERE run_id = :run_id");
  const setEnd = db.prepare(
    "UPDATE callbacks SET state = :state, last_result = :result, next_attempt_at = NULL WHERE run_id = :run_id",
  );

  return {
    /**
     * Those of runs that have ended whose next attempt is due, the longest due first. Due is also one after `latest`, which is later
     * than anybody plans an attempt: the clock was set back meanwhile.
     */
    due({ now, latest, limit }: { now: number; latest: number; limit: number }): DueCallback[] {
      return selectDue.all({ now, latest, limit }) as unknown as DueCallback[];
    },

    /**
     * Takes one attempt, before it is made: nobody else makes it too, and should
     * we end in the middle the next one comes at `nextAttemptAt`. False when
     * another has taken it.
     */
    take(callback: DueCallback, { nextAttemptAt, giveUpAt }: { nextAttemptAt: number; giveUpAt: number }) {
      const { run_id, next_attempt_at: due } = callback;
      return take.run({ run_id, due, next: nextAttemptAt, give_up: giveUpAt }).changes === 1;
    },

    /** Records what came of an attempt that is not the last. */
    noteResult(runId: string, result: string): void {
      setResult.run({ result, run_id: runId });
    },

    /** Records that there will be no further attempt. */
    end(runId: string, end: CallbackEnd, result: string): void {
      setEnd.run({ state: end, result, run_id: runId });
    },
  };
}
