import type { DatabaseSync } from "node:sqlite";

import {
  COLUMNS,
  decodeRun,
  encodeNewRun,
  encodeProcess,
  type NewRun,
  type Run,
  type RunProcess,
  type RunRow,
} from "./run.ts";
import { decodeOne } from "./run-queries.ts";
import { type Transaction, withoutSync } from "./transaction.ts";

const INSERT = `
  INSERT INTO runs (run_id, source, spec, cmd, log_path, key_name, spec_sha256, script_path, status, status_reason,
    started_at, launch_token, fingerprint, launcher, timeout_seconds, log_limit, label, started_uptime,
    keep_days, cgroup, kill_left_behind)
  VALUES (:run_id, :source, :spec, :cmd, :log_path, :key_name, :spec_sha256, :script_path, 'launching',
    'The command is being started.', :started_at, :launch_token, :fingerprint, :launcher, :timeout_seconds,
    :log_limit, :label, :started_uptime, :keep_days, :cgroup, :kill_left_behind)`;
const SET_RUNNING = `
    UPDATE runs SET status = 'running', status_reason = :reason, pid = :pid, pid_start = :pid_start, boot_id = :boot_id,
      log_file = :log_file WHERE run_id = :run_id AND ended_at IS NULL`;
const SET_FAILED = `
    UPDATE runs SET status = 'failed', status_reason = :reason, ended_at = max(:ended_at, started_at),
      launch_token = NULL WHERE run_id = :run_id AND ended_at IS NULL`;

/** The writes of a launch: that it was ordered, and that its process was started or never will be. */
export function launchWrites(db: DatabaseSync, transaction: Transaction) {
  const selectById = db.prepare(`SELECT ${COLUMNS} FROM runs WHERE run_id = :run_id`);
  const selectByToken = db.prepare(`SELECT ${COLUMNS} FROM runs WHERE launch_token = :token`);
  const freeToken = db.prepare("UPDATE runs SET launch_token = NULL WHERE launch_token = :token");
  const insert = db.prepare(INSERT);
  const setRunning = db.prepare(SET_RUNNING);
  const setFailed = db.prepare(SET_FAILED);
  const insertCallback = db.prepare("INSERT INTO callbacks (run_id, url) VALUES (:run_id, :url)");
  const deleteCallback = db.prepare("DELETE FROM callbacks WHERE run_id = :run_id");
  const read = (runId: string): Run => decodeRun(selectById.get({ run_id: runId }) as unknown as RunRow);

  return {
    /**
     * Records a launch, or returns the run that already holds the token: the
     * one decision that makes a launch happen at most once. A holder that is not `inForce` any more
     * loses the token. `admit` runs inside the transaction and may throw.
     */
    insertOrFind(
      run: NewRun,
      inForce: (holder: Run) => boolean,
      admit: () => void,
    ): { run: Run; isNew: boolean } {
      return transaction(() => {
        const holder = decodeOne(selectByToken.get({ token: run.launchToken }));
        if (holder && inForce(holder)) return { run: holder, isNew: false };
        admit();
        if (holder) freeToken.run({ token: run.launchToken });
        insert.run(encodeNewRun(run));
        if (run.callbackUrl !== undefined) insertCallback.run({ run_id: run.runId, url: run.callbackUrl });
        return { run: read(run.runId), isNew: true };
      });
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
      withoutSync(db, () =>
        setRunning.run({
          run_id: runId,
          reason,
          ...encodeProcess(process),
          log_file: logFile ?? null,
        }),
      );
      return read(runId);
    },
  };
}
