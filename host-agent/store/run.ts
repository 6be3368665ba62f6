import type { SQLInputValue } from "node:sqlite";

import type { ProcessIdentity } from "../executor/executor.ts";
import type { RunRecord, RunStatus, Source } from "../protocol/run.ts";

/** Why the agent stops a run: a client's kill, its time limit, or the limit of its log. */
export type StopCause = "kill" | "timeout" | "log_limit";

/** A stop that was ordered. It is recorded before its signal is sent, so a crash in between forgets nothing. */
export interface Stop {
  cause: StopCause;
  signal: string;
  /** The API key that asked for it; undefined for a limit. */
  keyName: string | undefined;
  /** True once the signal was sent to the live run. */
  sent: boolean;
  /** When SIGKILL follows; undefined for never. Its uptime is undefined where an earlier version recorded it. */
  deadline: RecordedMoment | undefined;
  /** True once SIGKILL has followed another signal. */
  escalated: boolean;
}

/** A moment as it was recorded; an earlier version recorded no uptime. */
export interface RecordedMoment {
  at: number;
  uptime: number | undefined;
}

/** The wrapper's process as it was recorded; of an adopted run its start time and boot may be unknown. */
export interface RunProcess {
  pid: number;
  startTime: string | undefined;
  bootId: string | undefined;
}

/** What the cgroup of a run said at its end. */
export interface RunUsage {
  /** The processes that were still alive, without the wrapper. */
  leftBehind: number;
  /** Microseconds, in user and system mode. */
  cpuUsec: number;
  /** Bytes; undefined where the kernel did not count them. */
  memoryPeak: number | undefined;
}

/** A run, decoded. Times are epoch milliseconds. */
export interface Run {
  /** Grows by one with each run: the order of launches. */
  readonly seq: number;
  readonly runId: string;
  readonly source: Source;
  readonly spec: RunRecord["spec"];
  /** The command line, quoted for a shell. */
  readonly cmd: string;
  readonly logPath: string;
  readonly keyName: string;
  /** SHA-256 of the script's bytes at the launch; undefined for a recipe. */
  readonly specSha256: string | undefined;
  /** The real path of the script at the launch; undefined for a recipe, and for a run of an earlier version. */
  readonly scriptPath?: string | undefined;
  readonly label: string | undefined;
  /** `launching` until the process is known; then as in the API. */
  readonly status: RunStatus | "launching";
  readonly statusReason: string;
  readonly exitCode: number | undefined;
  readonly signal: string | undefined;
  readonly startedAt: number;
  /** When it was launched, in milliseconds since the boot of the host that `launcher` names; undefined for a run of an earlier version. */
  readonly startedUptime: number | undefined;
  /** Undefined while anything of the run may be alive. */
  readonly endedAt: number | undefined;
  readonly process: RunProcess | undefined;
  /** Undefined once the launch failed: the token may start another run. */
  readonly launchToken: string | undefined;
  readonly fingerprint: string;
  /** The agent that launches the run. */
  readonly launcher: ProcessIdentity;
  readonly stop: Readonly<Stop> | undefined;
  readonly timeoutSeconds: number | undefined;
  /** The log shows at most this many bytes of the run's own. Never changes: clients hold offsets. */
  readonly logLimit: number | undefined;
  /** Device and inode of the log that was created for the run; undefined when unknown. */
  readonly logFile: string | undefined;
  /** The cgroup that it was launched in; undefined for none. */
  readonly cgroup?: string | undefined;
  /** Whether processes that are alive in its cgroup after its end are killed. */
  readonly killLeftBehind?: boolean;
  /** Undefined until it has ended, and for a run without a cgroup. */
  readonly usage?: Readonly<RunUsage> | undefined;
}

/** What a launch records. */
export interface NewRun extends Pick<
  Run,
  | "runId"
  | "source"
  | "spec"
  | "cmd"
  | "logPath"
  | "keyName"
  | "specSha256"
  | "scriptPath"
  | "label"
  | "startedAt"
  | "startedUptime"
  | "fingerprint"
  | "launcher"
  | "timeoutSeconds"
  | "logLimit"
  | "cgroup"
  | "killLeftBehind"
> {
  launchToken: string;
  /** Kept for this many days after its end, 0 forever; undefined for as long as the agent's setting says. */
  keepDays?: number | undefined;
  /** Receives the run's final record. */
  callbackUrl: string | undefined;
}

/** What may change of a run that has not ended; a property that is present and undefined is cleared. */
export type RunChanges = Partial<
  Pick<
    Run,
    | "status"
    | "statusReason"
    | "exitCode"
    | "signal"
    | "endedAt"
    | "process"
    | "launchToken"
    | "stop"
    | "logFile"
    | "usage"
  >
>;

/** What the run runs: the id of its recipe, or the real path of its script; undefined where that was not recorded. */
export function targetOf({ spec, scriptPath }: Pick<Run, "spec" | "scriptPath">): string | undefined {
  return "recipe_id" in spec ? spec.recipe_id : scriptPath;
}

/** A row of the table `runs`, as SQLite returns it. */
export interface RunRow {
  seq: number;
  run_id: string;
  source: string;
  spec: string;
  cmd: string;
  log_path: string;
  key_name: string;
  spec_sha256: string | null;
  script_path: string | null;
  label: string | null;
  status: string;
  status_reason: string;
  exit_code: number | null;
  signal: string | null;
  started_at: number;
  started_uptime: number | null;
  ended_at: number | null;
  pid: number | null;
  pid_start: string | null;
  boot_id: string | null;
  launch_token: string | null;
  fingerprint: string;
  launcher: string;
  stop_cause: string | null;
  stop_signal: string | null;
  stop_key_name: string | null;
  stop_sent: number;
  stop_deadline: number | null;
  stop_deadline_uptime: number | null;
  stop_escalated: number;
  timeout_seconds: number | null;
  log_limit: number | null;
  log_file: string | null;
  cgroup: string | null;
  kill_left_behind: number;
  left_behind: number | null;
  cpu_usec: number | null;
  memory_peak: number | null;
}

/**
 * A column that holds what a run could write, in versions that took it as it was. Reading a whole number that is no safe
 * integer throws for all rows of a statement, not for its own alone.
 */
function readable(column: string): string {
  return `max(min(${column}, ${Number.MAX_SAFE_INTEGER}), ${Number.MIN_SAFE_INTEGER}) AS ${column}`;
}

/** The columns that a run is decoded from. Not `*`: the generated column `recipe_id` would be computed for each row. */
export const COLUMNS = `seq, run_id, source, spec, cmd, log_path, key_name, spec_sha256, script_path, label, status, status_reason,
  exit_code, signal, started_at, ${readable("ended_at")}, ${readable("pid")}, pid_start, boot_id, launch_token,
  fingerprint, launcher, stop_cause, stop_signal, stop_key_name, stop_sent, stop_deadline, stop_deadline_uptime,
  stop_escalated, timeout_seconds, log_limit, log_file, started_uptime, cgroup, kill_left_behind, left_behind,
  cpu_usec, memory_peak`;

type Columns = Record<string, SQLInputValue>;

/** The run of a row. */
export function decodeRun(row: RunRow): Run {
  return {
    seq: row.seq,
    runId: row.run_id,
    source: row.source as Source,
    spec: JSON.parse(row.spec) as Run["spec"],
    cmd: row.cmd,
    logPath: row.log_path,
    keyName: row.key_name,
    specSha256: row.spec_sha256 ?? undefined,
    scriptPath: row.script_path ?? undefined,
    label: row.label ?? undefined,
    status: row.status as Run["status"],
    statusReason: row.status_reason,
    exitCode: row.exit_code ?? undefined,
    signal: row.signal ?? undefined,
    startedAt: row.started_at,
    startedUptime: row.started_uptime ?? undefined,
    endedAt: row.ended_at ?? undefined,
    process: decodeProcess(row),
    launchToken: row.launch_token ?? undefined,
    fingerprint: row.fingerprint,
    launcher: JSON.parse(row.launcher) as ProcessIdentity,
    stop: decodeStop(row),
    timeoutSeconds: row.timeout_seconds ?? undefined,
    logLimit: row.log_limit ?? undefined,
    logFile: row.log_file ?? undefined,
    cgroup: row.cgroup ?? undefined,
    killLeftBehind: row.kill_left_behind === 1,
    usage: decodeUsage(row),
  };
}

function decodeUsage({ left_behind, cpu_usec, memory_peak }: RunRow): RunUsage | undefined {
  if (left_behind === null || cpu_usec === null) return undefined;
  return { leftBehind: left_behind, cpuUsec: cpu_usec, memoryPeak: memory_peak ?? undefined };
}

function decodeProcess({ pid, pid_start, boot_id }: RunRow): RunProcess | undefined {
  if (pid === null) return undefined;
  return { pid, startTime: pid_start ?? undefined, bootId: boot_id ?? undefined };
}

function decodeStop(row: RunRow): Stop | undefined {
  if (row.stop_cause === null || row.stop_signal === null) return undefined;
  return {
    cause: row.stop_cause as StopCause,
    signal: row.stop_signal,
    keyName: row.stop_key_name ?? undefined,
    sent: row.stop_sent === 1,
    deadline:
      row.stop_deadline === null
        ? undefined
        : { at: row.stop_deadline, uptime: row.stop_deadline_uptime ?? undefined },
    escalated: row.stop_escalated === 1,
  };
}

/** The columns of a new run, by name, for named parameters. */
export function encodeNewRun(run: NewRun): Columns {
  return {
    run_id: run.runId,
    source: run.source,
    spec: JSON.stringify(run.spec),
    cmd: run.cmd,
    log_path: run.logPath,
    key_name: run.keyName,
    spec_sha256: run.specSha256 ?? null,
    script_path: run.scriptPath ?? null,
    label: run.label ?? null,
    started_at: run.startedAt,
    started_uptime: run.startedUptime ?? null,
    launch_token: run.launchToken,
    fingerprint: run.fingerprint,
    launcher: JSON.stringify(run.launcher),
    timeout_seconds: run.timeoutSeconds ?? null,
    log_limit: run.logLimit ?? null,
    keep_days: run.keepDays ?? null,
    cgroup: run.cgroup ?? null,
    kill_left_behind: run.killLeftBehind ? 1 : 0,
  };
}

/** The columns of changes, by name; only those of the properties that are present. */
export function encodeChanges(changes: RunChanges): Columns {
  return {
    ...("status" in changes && { status: changes.status }),
    ...("statusReason" in changes && { status_reason: changes.statusReason }),
    ...("exitCode" in changes && { exit_code: safeOrNull(changes.exitCode) }),
    ...("signal" in changes && { signal: changes.signal ?? null }),
    ...("endedAt" in changes && { ended_at: safeOrNull(changes.endedAt) }),
    ...("launchToken" in changes && { launch_token: changes.launchToken ?? null }),
    ...("logFile" in changes && { log_file: changes.logFile ?? null }),
    ...("process" in changes && encodeProcess(changes.process)),
    ...("stop" in changes && encodeStop(changes.stop)),
    ...("usage" in changes && encodeUsage(changes.usage)),
  };
}

/** The columns of the wrapper's process; of none all are empty. */
export function encodeProcess(process: RunProcess | undefined) {
  return {
    pid: safeOrNull(process?.pid),
    pid_start: process?.startTime ?? null,
    boot_id: process?.bootId ?? null,
  };
}

/** The columns of what a run used; of nothing all are empty. */
function encodeUsage(usage: RunUsage | undefined) {
  return {
    left_behind: safeOrNull(usage?.leftBehind),
    cpu_usec: safeOrNull(usage?.cpuUsec),
    memory_peak: safeOrNull(usage?.memoryPeak),
  };
}

/** A number that can be read back. Throws RangeError for any other: it would make its row unreadable for good. */
function safeOrNull(value: number | undefined): number | null {
  if (value !== undefined && !Number.isSafeInteger(value)) {
    throw new RangeError(`${value} is not a whole number that the database can give back`);
  }
  return value ?? null;
}

/** The columns of a stop; of none all are empty. */
export function encodeStop(stop: Stop | undefined) {
  return {
    stop_cause: stop?.cause ?? null,
    stop_signal: stop?.signal ?? null,
    stop_key_name: stop?.keyName ?? null,
    stop_sent: stop?.sent ? 1 : 0,
    stop_deadline: stop?.deadline?.at ?? null,
    stop_deadline_uptime: stop?.deadline?.uptime ?? null,
    stop_escalated: stop?.escalated ? 1 : 0,
  };
}
