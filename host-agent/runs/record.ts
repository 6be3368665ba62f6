import type { RunRecord } from "../protocol/run.ts";
import type { Run, RunUsage } from "../store/run.ts";

/** The run as clients see it. */
export function publicRun(run: Run): RunRecord {
  return {
    run_id: run.runId,
    source: run.source,
    spec: run.spec,
    pid: run.process === undefined ? null : String(run.process.pid),
    log_path: run.logPath,
    cmd: run.cmd,
    started_at: toSeconds(run.startedAt),
    ended_at: run.endedAt === undefined ? null : toSeconds(run.endedAt),
    status: run.status === "launching" ? "running" : run.status,
    status_reason: run.statusReason,
    exit_code: run.exitCode ?? null,
    signal: run.signal ?? null,
    spec_sha256: run.specSha256 ?? null,
    label: run.label ?? null,
    key_name: run.keyName,
    ...(run.usage && publicUsage(run.usage)),
  };
}

function publicUsage({
  leftBehind,
  cpuUsec,
  memoryPeak,
}: RunUsage): Pick<RunRecord, "left_behind" | "usage"> {
  return {
    left_behind: leftBehind,
    usage: { cpu_seconds: Math.round(cpuUsec / 1000) / 1000, memory_peak_bytes: memoryPeak ?? null },
  };
}

function toSeconds(milliseconds: number): number {
  return Math.floor(milliseconds / 1000);
}
