import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import type { Facts, JobFacts } from "./facts.ts";
import { expectedLines, type LedgerEntry } from "./job.ts";

/** What the shell says in the log of a command that a signal ended. */
const SHELL_SAYS = /^(?:Killed|Terminated|Hangup|Interrupt)?$/;
/** What the record of a run says whose command the host could not start. */
const NEVER_STARTED = /^The command was never started: |^The host cannot start anything now \(ENOSPC\); /;
/** The reason of a run that no client learned of, because its launcher died before. */
const INTERRUPTED = /^Launch interrupted: /;
const SIGNALS = new Map([
  [129, "SIGHUP"],
  [130, "SIGINT"],
  [137, "SIGKILL"],
  [143, "SIGTERM"],
]);

/** The time that a round took by the real clock, in epoch milliseconds, and by how much the servers' clock was ahead. */
export interface Span {
  from: number;
  to: number;
  offsets: number[];
}

/** Everything known of one job once all is over. */
export interface Case {
  facts: JobFacts;
  /** Its runs as the API shows them, earlier ones left out. */
  records: RunRecord[];
  /** What the ledger has of these. */
  entries: LedgerEntry[];
  diskFull: boolean;
  span: Span;
}

/** How often the job ran: once if it was acknowledged, at most once if not, and each run of it once at most. */
export function judgeLaunch(
  { facts: { job, acknowledged }, records, entries, diskFull }: Case,
  facts: Facts,
): void {
  if (entries.length > 1) facts.violate(`${job.id} ran ${entries.length} times: ${ids(entries)}`);
  for (const entry of entries) {
    if (entry.starts !== 1) facts.violate(`${entry.runId} of ${job.id} ran ${entry.starts} times`);
    if (!records.some((record) => record.run_id === entry.runId))
      facts.violate(`${entry.runId} of ${job.id} ran and is not listed`);
  }
  for (const runId of acknowledged) {
    const record = records.find((each) => each.run_id === runId);
    if (!record) {
      facts.violate(`${runId} of ${job.id} was acknowledged and is not listed`);
      continue;
    }
    const hasRun = entries.some((entry) => entry.runId === runId);
    const lackedRoom = diskFull && NEVER_STARTED.test(record.status_reason);
    const mayBeCutShort = facts.harmed.has(runId) || lackedRoom || mayBeKilled(runId, facts);
    if (!hasRun && !mayBeCutShort)
      facts.violate(`${runId} of ${job.id} was acknowledged and never ran: ${JSON.stringify(record)}`);
  }
}

/** Whether a run's record is true. */
export function judgeRecord(
  record: RunRecord,
  entry: LedgerEntry | undefined,
  { facts: { job, acknowledged }, diskFull, span }: Case,
  facts: Facts,
): void {
  const { run_id, status, status_reason, exit_code, signal, started_at, ended_at } = record;
  const wrong = (why: string) => facts.violate(`${run_id} of ${job.id}: ${why}: ${JSON.stringify(record)}`);
  const kill = facts.kills.get(run_id);
  const harm = facts.harmed.get(run_id) ?? new Set();
  facts.count(`runs ${status}`);
  if (status_reason === "") wrong("has no reason");
  if (status === "running" || ended_at === null) return wrong("is stuck");
  if (ended_at < started_at) wrong("ended before it started");
  if (!isWithin(ended_at, span) || !isWithin(started_at, span)) wrong("is not of its time");
  if (kill?.answer === "accepted" && status !== "killed") wrong("its kill was accepted");
  if (status === "killed" && !mayBeKilled(run_id, facts)) wrong("nobody killed it");

  if (exit_code === null) {
    // A killed process may have to be killed with the wrapper.
    const isByForce = kill?.order.signal === "SIGKILL" || kill?.order.grace_seconds !== undefined;
    const isCodeLost = harm.has("wrapper SIGKILL") || (status === "killed" && isByForce);
    const lackedRoom = NEVER_STARTED.test(status_reason) && (diskFull || harm.has("wrapper SIGTERM"));
    const isInterrupted = INTERRUPTED.test(status_reason) && !acknowledged.has(run_id);
    const neverRan = !entry && status === "failed" && (lackedRoom || isInterrupted);
    if (!isCodeLost && !neverRan) wrong("lost its exit code");
    if (status === "completed") wrong("made up a success");
    return undefined;
  }

  const codes = [
    ...(entry?.linesLost === undefined ? [] : [job.exitCode]),
    ...(harm.has("job SIGKILL") ? [137] : []),
    ...(harm.has("job SIGTERM") ? [143] : []),
    ...(kill && kill.answer !== "refused" ? codesOf(kill.order) : []),
  ];
  if (!codes.includes(exit_code)) wrong(`its exit code is none of ${codes.join(", ")}`);
  if (signal !== (SIGNALS.get(exit_code) ?? null)) wrong("its signal does not go with its exit code");
  if (status === "killed") return undefined;
  const own = exit_code === 0 ? "completed" : "failed";
  // The log reports a killed child of the job, and then ends with an error.
  const mayEndInError = (harm.has("job SIGKILL") || harm.has("job SIGTERM")) && status === "failed";
  if (status !== own && !mayEndInError) wrong("does not go with its exit code");
  return undefined;
}

/** What the API shows of a log, and what is on the disk. */
export interface LogFound {
  log: string;
  onDisk: string;
}

/** Whether the log has what the job wrote, all of it and nothing else. */
export function judgeLog(
  { run_id }: Pick<RunRecord, "run_id">,
  entry: LedgerEntry,
  { facts: { job }, diskFull }: Pick<Case, "facts" | "diskFull">,
  { log, onDisk }: LogFound,
  facts: Facts,
): void {
  if (log !== onDisk)
    facts.violate(`${run_id}: the pages are not the file: ${JSON.stringify([log, onDisk])}`);
  // A terminal does not report a full disk to its command.
  const mayLackLines = (entry.linesLost ?? 0) > 0 || (job.terminal && diskFull);
  if (mayLackLines) return;
  const expected = expectedLines(job);
  const lines = log.split("\n");
  const rest = lines.pop();
  const said = lines.filter((line) => line.startsWith(job.id));
  const other = lines.filter((line) => !line.startsWith(job.id) && !SHELL_SAYS.test(line));
  const isWhole = entry.linesLost === 0;
  if (isWhole && said.join("\n") !== expected.join("\n"))
    facts.violate(`${run_id}: its log lacks lines: ${JSON.stringify(log)}`);
  // A shortened log has the first lines, in their order.
  if (!isWhole && expected.slice(0, said.length).join("\n") !== said.join("\n"))
    facts.violate(`${run_id}: its log is not what it wrote: ${JSON.stringify(log)}`);
  if ((rest !== "" || other.length > 0) && !facts.harmed.has(run_id) && !facts.kills.has(run_id))
    facts.violate(`${run_id}: its log has what it did not write: ${JSON.stringify(log)}`);
}

function mayBeKilled(runId: string, { kills }: Facts): boolean {
  const kill = kills.get(runId);
  return kill !== undefined && kill.answer !== "refused";
}

/** What a command that catches nothing ends with. */
function codesOf({
  signal = "SIGTERM",
  grace_seconds,
}: {
  signal?: string;
  grace_seconds?: number;
}): number[] {
  const own = [...SIGNALS].find(([, name]) => name === signal)![0];
  return grace_seconds === undefined ? [own] : [own, 137];
}

/** By the real clock, or by the servers' own. */
function isWithin(seconds: number, { from, to, offsets }: Span): boolean {
  return [0, ...offsets].some(
    (ahead) => seconds >= Math.floor((from + ahead) / 1000) && seconds <= Math.floor((to + ahead) / 1000),
  );
}

function ids(entries: LedgerEntry[]): string {
  return entries.map((entry) => entry.runId).join(", ");
}
