import { LOST_OUTPUT_LINE } from "../../../host-agent/logs/log-limit.ts";
import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { type Circumstances, circumstancesOf, type Fault, isExcused } from "./excuses.ts";
import type { Facts, JobFacts } from "./facts.ts";
import { expectedLines, type LedgerEntry } from "./job.ts";

/** What the shell says in the log of a command that a signal ended. */
const SHELL_SAYS = /^(?:Killed|Terminated|Hangup|Interrupt)\r?$/;
const SIGNALS = new Map([
  [129, "SIGHUP"],
  [130, "SIGINT"],
  [137, "SIGKILL"],
  [143, "SIGTERM"],
]);

/** The time that a round took by the real clock, in epoch milliseconds, and by how much the servers' wall clock was ahead. */
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
  /** The exit codes that the wrappers have left on the disk, by run. */
  exits: ReadonlyMap<string, number>;
  span: Span;
}

/** How often the job ran: once if it was acknowledged, at most once if not, and each run of it once at most. */
export function judgeLaunch({ facts: own, records, entries }: Case, facts: Facts): void {
  const { job, key, acknowledged, denials } = own;
  if (entries.length > 1) facts.violate(`${job.id} ran ${entries.length} times: ${ids(entries)}`);
  if (key === undefined && denials > 0 && entries.length > 0)
    facts.violate(`${job.id} ran, after an answer that nothing was started: ${ids(entries)}`);
  for (const entry of entries) {
    if (entry.starts !== 1) facts.violate(`${entry.runId} of ${job.id} ran ${entry.starts} times`);
    if (!records.some((record) => record.run_id === entry.runId))
      facts.violate(`${entry.runId} of ${job.id} ran and is not listed`);
  }
  for (const runId of acknowledged) {
    // A replay of an earlier run, which the client has judged.
    if (own.earlier.has(runId)) continue;
    const record = records.find((each) => each.run_id === runId);
    if (!record) {
      facts.violate(`${runId} of ${job.id} was acknowledged and is not listed`);
      continue;
    }
    const hasRun = entries.some((entry) => entry.runId === runId);
    if (!hasRun && !isExcused("never ran", circumstancesOf(record, undefined, own, facts), facts))
      facts.violate(`${runId} of ${job.id} was acknowledged and never ran: ${JSON.stringify(record)}`);
  }
}

/** Whether a run's record is true. */
export function judgeRecord(
  record: RunRecord,
  entry: LedgerEntry | undefined,
  { facts: own, exits, span }: Case,
  facts: Facts,
): void {
  const { run_id, status, status_reason, exit_code, signal, started_at, ended_at } = record;
  const wrong = (why: string) =>
    facts.violate(`${run_id} of ${own.job.id}: ${why}: ${JSON.stringify(record)}${context(run_id, facts)}`);
  const run = circumstancesOf(record, entry, own, facts);
  const unlessExcused = (fault: Fault, why: string) => {
    if (!isExcused(fault, run, facts)) wrong(why);
  };
  facts.count(`runs ${status}`);
  if (status_reason === "") wrong("has no reason");
  if (status === "running" || ended_at === null) return wrong("is stuck");
  if (ended_at < started_at) wrong("ended before it started");
  if (!isWithin(ended_at, span) || !isWithin(started_at, span)) wrong("is not of its time");
  judgeKill(run, wrong, unlessExcused);
  const onDisk = exits.get(run_id);
  if (onDisk !== undefined && onDisk !== exit_code) wrong(`its exit code on the disk is ${onDisk}`);
  const isWhole = entry?.linesLost !== undefined;
  if (entry && !isWhole) unlessExcused("cut short", "did not come to its end");
  if (exit_code === null) {
    unlessExcused("no exit code", "lost its exit code");
    if (status === "completed") wrong("made up a success");
    return undefined;
  }
  if (!isWhole || exit_code !== own.job.exitCode)
    unlessExcused(
      "another exit code",
      `its exit code is not ${isWhole ? own.job.exitCode : "that of a signal"}`,
    );
  if (signal !== (SIGNALS.get(exit_code) ?? null)) wrong("its signal does not go with its exit code");
  if (status === "killed") return undefined;
  if (status === "failed" && exit_code === 0) {
    unlessExcused("failed with exit code 0", "does not go with its exit code");
  } else if (status !== (exit_code === 0 ? "completed" : "failed")) {
    wrong("does not go with its exit code");
  }
  return undefined;
}

function judgeKill(
  { record: { status }, kill }: Circumstances,
  wrong: (why: string) => void,
  unlessExcused: (fault: Fault, why: string) => void,
): void {
  if (kill?.answer === "accepted" && status !== "killed") wrong("its kill was accepted");
  if (status === "killed" && kill?.answer !== "accepted")
    unlessExcused("killed without an answer", "nobody killed it");
}

/** What API and disk have of a log. */
export interface LogFound {
  log: string;
  onDisk: string;
}

/** Whether the log has what the job wrote, all of it and nothing else. */
export function judgeLog(
  record: RunRecord,
  entry: LedgerEntry,
  { facts: own }: Pick<Case, "facts">,
  { log, onDisk }: LogFound,
  facts: Facts,
): void {
  const { run_id } = record;
  const run = circumstancesOf(record, entry, own, facts);
  const wrong = (why: string) =>
    facts.violate(`${run_id}: ${why}: ${JSON.stringify(log)}${context(run_id, facts)}`);
  const unlessExcused = (fault: Fault, why: string) => {
    if (!isExcused(fault, run, facts)) wrong(why);
  };
  if (log !== onDisk) wrong(`the pages are not the file ${JSON.stringify(onDisk)}`);
  const expected = expectedLines(own.job);
  const lines = log.split("\n");
  const torn = lines.pop()!;
  const said = lines.filter((line) => expected.includes(line));
  const other = lines.filter((line) => !expected.includes(line));
  const { linesLost } = entry;

  if (!isSubsequence(said, expected)) wrong("its log is not what it wrote");
  const missing = expected.length - said.length;
  // A line that was written in part spoils the next one as well.
  if (
    linesLost !== undefined &&
    linesLost > 0 &&
    missing > 2 * linesLost &&
    !run.powerLost &&
    !run.isTerminal
  )
    wrong(`its log lacks ${missing} lines, and the job lost ${linesLost}`);
  const isBeginning = said.every((line, i) => line === expected[i]);
  if (linesLost === undefined ? !isBeginning : missing > 0 || linesLost > 0)
    unlessExcused("log lacks lines", "its log lacks lines");
  // Of a line that was not written whole, at most its beginning stands before another line or at the end.
  const strange = other.filter(
    (line) => !SHELL_SAYS.test(line) && !isSpoilt(line, own.job.id, run) && !isLostLine(line, run),
  );
  if (strange.length > 0) wrong(`its log has what it did not write ${JSON.stringify(strange)}`);
  if (other.some((line) => SHELL_SAYS.test(line)))
    unlessExcused("words of the shell in the log", "its log has words of the shell");
  if (torn !== "") {
    if (!isSpoilt(torn, own.job.id, run) && !expected.some((line) => line.startsWith(torn)))
      wrong(`its log ends with what it did not write ${JSON.stringify(torn)}`);
    unlessExcused("torn last line of the log", "its last line is torn");
  }
}

/** A line that a full disk has cut, with the next one behind it. */
function isSpoilt(line: string, jobId: string, { lacked }: Circumstances): boolean {
  return lacked.has("blocks") && jobId.startsWith(line.slice(0, jobId.length));
}

/** What the pump reports of output that a full disk did not take. A line of the job that was cut is in front of it. */
function isLostLine(line: string, { lacked }: Circumstances): boolean {
  return lacked.has("blocks") && (line === "" || LOST_OUTPUT_LINE.includes(`\n${line}\n`));
}

function isSubsequence(some: readonly string[], all: readonly string[]): boolean {
  let at = 0;
  for (const line of all) if (line === some[at]) at++;
  return at === some.length;
}

/** What was done to a run, for a reader of a violation. */
function context(runId: string, facts: Facts): string {
  const harm = facts.harmed.get(runId);
  const kill = facts.kills.get(runId);
  return `${harm ? ` harmed by ${[...harm].join(", ")}` : ""}${kill ? ` kill ${JSON.stringify(kill)}` : ""}`;
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
