import type { RunRecord } from "../protocol/run.ts";
import type { StoredRun } from "../store/run-store.ts";

/** The run as clients see it. */
export function publicRun(run: StoredRun): RunRecord {
  return {
    run_id: run.run_id,
    source: run.source,
    spec: JSON.parse(run.spec) as RunRecord["spec"],
    pid: run.pid === null ? null : String(run.pid),
    log_path: run.log_path,
    cmd: run.cmd,
    started_at: toSeconds(run.started_at),
    ended_at: run.ended_at === null ? null : toSeconds(run.ended_at),
    status: run.status === "launching" ? "running" : run.status,
    status_reason: run.status_reason,
    exit_code: run.exit_code,
    signal: run.signal,
    spec_sha256: run.spec_sha256,
    label: run.label,
    key_name: run.key_name,
  };
}

function toSeconds(milliseconds: number): number {
  return Math.floor(milliseconds / 1000);
}
