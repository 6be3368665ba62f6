import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { identify, type ProcessIdentity } from "../../host-agent/executor/process-identity.ts";
import type { RunRecord } from "../../host-agent/protocol/run.ts";
import type { NewRun, Run } from "../../host-agent/store/run.ts";

let count = 0;

/** A launch as the store records it: of a script, by the key `k`, with an id of its own unless told otherwise. */
export function newRun(given: Partial<NewRun> = {}): NewRun {
  const runId = given.runId ?? `run_${String(++count).padStart(12, "0")}`;
  return {
    runId,
    source: "script",
    spec: { path: "/a.sh", args: "" },
    cmd: "/a.sh",
    logPath: "/a.log",
    keyName: "k",
    specSha256: undefined,
    label: undefined,
    startedAt: Date.now(),
    startedUptime: undefined,
    fingerprint: "f",
    launcher: { pid: 1, startTime: "1", bootId: "b" },
    timeoutSeconds: undefined,
    logLimit: undefined,
    launchToken: runId,
    callbackUrl: undefined,
    ...given,
  };
}

/** A run that is alive, decoded, without a database behind it. */
export function liveRun(given: Partial<Run> = {}): Run {
  const { callbackUrl: _none, ...launched } = newRun();
  return {
    ...launched,
    seq: 1,
    status: "running",
    statusReason: "The process is alive.",
    exitCode: undefined,
    signal: undefined,
    endedAt: undefined,
    process: undefined,
    stop: undefined,
    logFile: undefined,
    ...given,
  };
}

/** The record of a run that is running, as the API shows it, with these changes. */
export function runRecord(changes: Partial<RunRecord> = {}): RunRecord {
  return {
    run_id: "run_0123456789ab",
    source: "script",
    spec: { path: "/job.sh", args: "" },
    pid: "77",
    log_path: "/logs/job.log",
    cmd: "/job.sh",
    started_at: 1_800_000_000,
    ended_at: null,
    status: "running",
    status_reason: "The process is alive.",
    exit_code: null,
    signal: null,
    spec_sha256: null,
    label: null,
    key_name: "acme-prod",
    ...changes,
  };
}

/** Values of columns of the table `runs`: what an agent has left in the database of its state folder. */
export type Row = Record<string, string | number | null>;

/** A run that runs, as far as its agent knew. */
export const RUNNING_ROW: Row = { status: "running", exit_code: null, signal: null, ended_at: null };

/** A run whose agent died in the middle of the launch. Its agent is this process's number in an earlier life. */
export function launchingRow(launcher: Partial<ProcessIdentity> = {}): Row {
  const dead = { ...identify(process.pid)!, startTime: "1", ...launcher };
  return {
    status: "launching",
    exit_code: null,
    signal: null,
    ended_at: null,
    pid: null,
    pid_start: null,
    boot_id: null,
    launcher: JSON.stringify(dead),
  };
}

/** A run to which a kill by this key was about to send its signal when its agent died. */
export function killedRow(signal: string, keyName: string): Row {
  return { ...RUNNING_ROW, stop_cause: "kill", stop_signal: signal, stop_key_name: keyName, stop_sent: 0 };
}

/**
 * Records a run once more under another id, with these changes: an agent that runs has no memory of that one, as it has of an
 * ended run that it was asked for. The copy has no launch token.
 */
export function copyRow(stateDir: string, runId: string, newId: string, row: Row): void {
  using db = new DatabaseSync(join(stateDir, "runs.db"));
  const old = db.prepare("SELECT * FROM runs WHERE run_id = ?").get(runId) as Row;
  const copy: Row = { ...old, ...row, run_id: newId, launch_token: null };
  // The pragma leaves out what the database computes itself.
  const names = db
    .prepare("PRAGMA table_info(runs)")
    .all()
    .map(({ name }) => String(name))
    .filter((name) => name !== "seq");
  db.prepare(`INSERT INTO runs (${names.join(", ")}) VALUES (${names.map(() => "?").join(", ")})`).run(
    ...names.map((name) => copy[name]!),
  );
}

/** Changes the row of one run in the database of a state folder. Throws unless exactly one row is changed. */
export function rewriteRow(stateDir: string, runId: string, row: Row): void {
  using db = new DatabaseSync(join(stateDir, "runs.db"));
  const sets = Object.keys(row).map((column) => `${column} = ?`);
  const { changes } = db
    .prepare(`UPDATE runs SET ${sets.join(", ")} WHERE run_id = ?`)
    .run(...Object.values(row), runId);
  if (changes !== 1) throw new Error(`${changes} rows have the run_id ${runId}`);
}
