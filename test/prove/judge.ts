import { readFileSync } from "node:fs";

import type { RunRecord } from "../../host-agent/protocol/schemas.ts";
import type { Facts, JobFacts } from "./facts.ts";
import { expectedLines, type Job, type LedgerEntry } from "./job.ts";
import { RUNS } from "./client.ts";
import type { World } from "./world.ts";

/** What the shell says in the log of a command that a signal ended. */
const SHELL_SAYS = /^(?:Killed|Terminated|Hangup|Interrupt)?$/;

/** Everything known of one job once all is over. */
export interface Case {
  facts: JobFacts;
  /** Its runs as the API shows them, earlier ones left out. */
  records: RunRecord[];
  /** What the ledger has of these. */
  entries: LedgerEntry[];
  diskFull: boolean;
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
    const hasRun = entries.some((entry) => entry.runId === runId);
    const mayBeCutShort =
      facts.harmed.has(runId) || diskFull || (facts.kills.get(runId) ?? "refused") !== "refused";
    if (!record) facts.violate(`${runId} of ${job.id} was acknowledged and is not listed`);
    else if (!hasRun && !mayBeCutShort)
      facts.violate(`${runId} of ${job.id} was acknowledged and never ran: ${JSON.stringify(record)}`);
  }
}

/** Whether a run's record is true. */
export function judgeRecord(
  record: RunRecord,
  entry: LedgerEntry | undefined,
  { facts: { job } }: Case,
  facts: Facts,
): void {
  const wrong = (why: string) =>
    facts.violate(`${record.run_id} of ${job.id}: ${why}: ${JSON.stringify(record)}`);
  const kill = facts.kills.get(record.run_id);
  const harm = [...(facts.harmed.get(record.run_id) ?? [])];
  facts.count(`runs ${record.status}`);
  if (record.status_reason === "") wrong("has no reason");
  if (record.status === "running" || record.ended_at === null) return wrong("is stuck");
  if (kill === "accepted" && record.status !== "killed") wrong("its kill was accepted");
  if (record.status === "killed") {
    if (kill === undefined || kill === "refused") wrong("nobody killed it");
    return undefined;
  }
  if (!entry) {
    if (record.status === "unknown" && harmless(record, facts)) wrong("never ran, which can be known");
    if (record.status === "completed" || record.exit_code === 0) wrong("never ran");
    return undefined;
  }
  const ownCode = entry.linesLost !== undefined;
  const bySignal = harm.some((each) => each.startsWith("job")) ? [137, 143] : [];
  const wrapperHarmed = harm.some((each) => each.startsWith("wrapper"));
  if (record.exit_code === null) {
    if (!wrapperHarmed) wrong("lost its exit code");
    if (record.status === "completed") wrong("made up a success");
    return undefined;
  }
  const codes = [...bySignal, ...(ownCode ? [job.exitCode] : [])];
  if (!codes.includes(record.exit_code)) wrong(`its exit code is none of ${codes.join(", ")}`);
  const own = record.exit_code === 0 ? "completed" : "failed";
  // A child of the job that was killed is told of in the log, which then ends with an error.
  const mayEndInError = bySignal.length > 0 && record.status === "failed";
  if (record.status !== own && !mayEndInError) wrong("does not go with its exit code");
  return undefined;
}

/** Whether the log has what the job wrote, all of it and nothing else. */
export async function judgeLog(
  world: World,
  record: RunRecord,
  entry: LedgerEntry,
  job: Job,
  facts: Facts,
): Promise<void> {
  const log = await readLog(world, record.run_id);
  const onDisk = readFileSync(record.log_path, "utf8");
  if (log !== onDisk)
    facts.violate(`${record.run_id}: the pages are not the file: ${JSON.stringify([log, onDisk])}`);
  const expected = expectedLines(job);
  const lines = log.split("\n");
  const rest = lines.pop();
  const isWhole = entry.linesLost === 0;
  const said = lines.filter((line) => line.startsWith(job.id));
  const other = lines.filter((line) => !line.startsWith(job.id) && !SHELL_SAYS.test(line));
  if (isWhole && said.join("\n") !== expected.join("\n"))
    facts.violate(`${record.run_id}: its log lacks lines: ${JSON.stringify(log)}`);
  // What a full disk took is missing; what is there stands in its order, the last line perhaps cut off.
  if (
    !isWhole &&
    (entry.linesLost ?? 0) === 0 &&
    expected.slice(0, said.length).join("\n") !== said.join("\n")
  )
    facts.violate(`${record.run_id}: its log is not what it wrote: ${JSON.stringify(log)}`);
  if (
    (entry.linesLost ?? 0) === 0 &&
    (rest !== "" || other.length > 0) &&
    !facts.harmed.has(record.run_id) &&
    !facts.kills.has(record.run_id)
  )
    facts.violate(`${record.run_id}: its log has what it did not write: ${JSON.stringify(log)}`);
}

async function readLog(world: World, runId: string): Promise<string> {
  const pages: Uint8Array[] = [];
  for (let after = 0; ;) {
    const { status, headers, bytes } = await world.read(
      `${RUNS}/${runId}/logs?after=${after}&max_bytes=500`,
      {
        accept: "text/plain",
      },
    );
    if (status !== 200) throw new Error(`log of ${runId}: ${status} ${new TextDecoder().decode(bytes)}`);
    pages.push(bytes);
    after = Number(headers.get("hub-log-offset"));
    if (headers.get("hub-log-more") !== "true") return Buffer.concat(pages).toString("utf8");
  }
}

/** True for a run that nobody hurt: only its host had no room. */
function harmless(record: RunRecord, facts: Facts): boolean {
  return !facts.harmed.has(record.run_id) && !facts.kills.has(record.run_id);
}

function ids(entries: LedgerEntry[]): string {
  return entries.map((entry) => entry.runId).join(", ");
}
