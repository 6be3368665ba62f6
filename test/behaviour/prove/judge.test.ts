import { describe, expect, test } from "vitest";

import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { createFacts, type Exhausted, type Facts, type KillFact, newJobFacts } from "./facts.ts";
import { expectedLines, type Job, readLedger } from "./job.ts";
import { type Case, judgeLaunch, judgeLog, judgeRecord, type Span } from "./judge.ts";
import { runRecord } from "../../support/runs.ts";

const RUN_ID = "run_0123456789ab";
const STARTED = 1_800_000_000;
const SPAN: Span = { from: STARTED * 1000 - 500, to: STARTED * 1000 + 4_500, offsets: [0, 60_000] };
const NEVER_STARTED = "The command was never started: its wrapper ended before.";

const JOB: Job = {
  id: "j0",
  lines: 2,
  exitCode: 9,
  pauseMs: 0,
  child: "none",
  source: "script",
  terminal: false,
};
const RECORD = runRecord({
  run_id: RUN_ID,
  log_path: "/logs/j0.log",
  started_at: STARTED,
  ended_at: STARTED + 2,
  status: "failed",
  status_reason: "The command exited with code 9.",
  exit_code: 9,
  key_name: "prover",
});
const KILLED: Partial<RunRecord> = {
  status: "killed",
  status_reason: "/kill by prover sent SIGTERM.",
  exit_code: 143,
  signal: "SIGTERM",
};

/** What has come of one job that was acknowledged; by default all is well. */
interface Story {
  record?: Partial<RunRecord>;
  /** Not listed at all. */
  isLost?: boolean;
  ledger?: string[];
  /** What the disk lacked while the job was launched and ran. */
  full?: Exhausted;
  /** Before the job was asked for. */
  wasFull?: boolean;
  /** What its wrapper has left on the disk. */
  exit?: number;
  /** No Idempotency-Key, and the only answer said that nothing was started. */
  isDenied?: boolean;
  powerLost?: boolean;
  harm?: string;
  kill?: KillFact;
  terminal?: boolean;
  log?: string;
  onDisk?: string;
}

const RAN = [`start ${RUN_ID} j0`, `end ${RUN_ID} j0 0`];
const WHOLE = expectedLines(JOB).join("\n") + "\n";
const byTerm = (answer: KillFact["answer"]): KillFact => ({ order: {}, answer });

/** All that the judge has to say of it. */
function judged(story: Story): string[] {
  const facts: Facts = createFacts();
  if (story.harm !== undefined) facts.harmed.set(RUN_ID, new Set([story.harm]));
  if (story.kill) facts.kills.set(RUN_ID, story.kill);
  const record = { ...RECORD, ...story.record };
  const ledger = readLedger((story.ledger ?? RAN).join("\n"));
  const job = { ...JOB, terminal: story.terminal === true };
  const { from, to } = SPAN;
  if (story.full) facts.full.push({ of: story.full, from: from + 10, to: to - 10 });
  if (story.wasFull) facts.full.push({ of: "blocks", from: from - 900, to: from - 100 });
  if (story.powerLost) facts.powerLost.push(from + 100);
  const found: Case = {
    facts: {
      ...newJobFacts(job, story.isDenied ? undefined : "k"),
      acknowledged: new Set(story.isDenied ? [] : [RUN_ID]),
      denials: story.isDenied ? 1 : 0,
      asked: { from, to: from + 50 },
    },
    records: story.isLost ? [] : [record],
    entries: [...ledger.values()],
    exits: new Map(story.exit === undefined ? [] : [[RUN_ID, story.exit]]),
    span: SPAN,
  };
  const entry = ledger.get(RUN_ID);
  judgeLaunch(found, facts);
  judgeRecord(record, entry, found, facts);
  const log = story.log ?? WHOLE;
  if (entry) judgeLog(record, entry, found, { log, onDisk: story.onDisk ?? log }, facts);
  return facts.violations;
}

describe("the judge of the crash harness", () => {
  test.for<[string, Story]>([
    ["ran to its end", {}],
    ["was killed", { record: KILLED, ledger: RAN.slice(0, 1), kill: byTerm("accepted"), log: "" }],
    [
      "lost its wrapper",
      { record: { status: "unknown", exit_code: null }, harm: "wrapper SIGKILL", log: WHOLE },
    ],
    [
      "was ended on the host",
      { record: { exit_code: 137, signal: "SIGKILL" }, ledger: RAN.slice(0, 1), harm: "job SIGKILL" },
    ],
    [
      "never ran because the disk was full, and reports it",
      { record: { status_reason: NEVER_STARTED, exit_code: null }, ledger: [], full: "inodes" },
    ],
    ["ended by a clock that was moved", { record: { ended_at: STARTED + 62 } }],
    [
      "had no disk space for its last line",
      { ledger: [RAN[0]!, `end ${RUN_ID} j0 1`], log: "j0 line 1 of 2\nj0 line 2 of 2\n", full: "blocks" },
    ],
    ["left its exit code on the disk", { exit: 9 }],
    [
      "was cut off by a loss of power",
      {
        record: { status: "unknown", status_reason: "The host was restarted while it ran.", exit_code: null },
        ledger: RAN.slice(0, 1),
        log: "j0 li",
        powerLost: true,
      },
    ],
  ])("accepts a run that %s", ([, story]) => {
    expect(judged(story)).toEqual([]);
  });

  test.for<[string, RegExp, Story]>([
    ["a job that ran twice in one run", /ran 2 times/, { ledger: [RAN[0]!, ...RAN] }],
    [
      "a job that ran in two runs",
      /ran 2 times: .*is not listed/s,
      { ledger: [...RAN, "start run_ba9876543210 j0"] },
    ],
    ["an acknowledged run that is not listed", /is not listed/, { isLost: true }],
    ["an acknowledged run that never ran", /never ran/, { ledger: [] }],
    [
      "one that a full disk is no reason for",
      /never ran/,
      { ledger: [], full: "blocks", record: { status: "unknown", exit_code: null } },
    ],
    [
      "one that a disk is no reason for that was full before",
      /never ran/,
      { ledger: [], wasFull: true, record: { status_reason: NEVER_STARTED, exit_code: null } },
    ],
    [
      "a job that ran although nothing was started, as its answer says",
      /nothing was started/,
      { isDenied: true },
    ],
    [
      "an exit code that is on the disk and not in the record",
      /exit code on the disk is 9/,
      { record: { status: "unknown", exit_code: null }, harm: "wrapper SIGKILL", exit: 9 },
    ],
    ["a run that was cut short by nobody", /did not come to its end/, { ledger: RAN.slice(0, 1) }],
    ["the words of a shell in a log, after no signal", /words of the shell/, { log: `${WHOLE}Terminated\n` }],
    [
      "lines that were lost on a disk with free space",
      /lacks lines/,
      { ledger: [RAN[0]!, `end ${RUN_ID} j0 1`], log: "j0 line 1 of 2\nj0 line 2 of 2\n" },
    ],
    [
      "more lost lines than the job noticed on a full disk",
      /lacks 3 lines, and the job lost 1/,
      { ledger: [RAN[0]!, `end ${RUN_ID} j0 1`], log: "", full: "blocks" },
    ],
    [
      "a run of before a loss of power whose record does not report it",
      /lost its exit code/,
      { record: { status: "unknown", exit_code: null }, ledger: RAN.slice(0, 1), log: "", powerLost: true },
    ],
    ["a log that a loss of power does not explain", /did not write/, { log: "j7 done\n", powerLost: true }],
    ["a record without a reason", /has no reason/, { record: { status_reason: "" } }],
    ["a run that is still alive", /is stuck/, { record: { status: "running", ended_at: null } }],
    ["an end before the start", /ended before it started/, { record: { ended_at: STARTED - 1 } }],
    ["an end long after the round", /not of its time/, { record: { ended_at: STARTED + 3_600 } }],
    ["another exit code than the job's", /exit code is not 9/, { record: { exit_code: 8 } }],
    ["a success that was none", /exit code is not 9/, { record: { status: "completed", exit_code: 0 } }],
    [
      "a status that the exit code belies",
      /does not go with its exit code/,
      { record: { status: "unknown" } },
    ],
    ["a signal that nobody sent", /signal does not go/, { record: { signal: "SIGTERM" } }],
    ["a lost exit code", /lost its exit code/, { record: { status: "unknown", exit_code: null } }],
    [
      "an exit code lost to a signal that the wrapper outlives",
      /lost its exit code/,
      { record: { status: "unknown", exit_code: null }, harm: "wrapper SIGTERM" },
    ],
    [
      "a success made up for a lost exit code",
      /made up a success/,
      { record: { status: "completed", exit_code: null }, harm: "wrapper SIGKILL" },
    ],
    ["a kill that nobody asked for", /nobody killed it/, { record: KILLED }],
    ["a kill that was refused", /nobody killed it/, { record: KILLED, kill: byTerm("refused") }],
    ["an accepted kill that was forgotten", /its kill was accepted/, { kill: byTerm("accepted") }],
    [
      "another exit code than a kill leaves",
      /exit code is not that of a signal/,
      {
        record: { ...KILLED, exit_code: 0, signal: null },
        ledger: RAN.slice(0, 1),
        kill: byTerm("accepted"),
        log: "",
      },
    ],
    [
      "a killed run without its exit code",
      /lost its exit code/,
      { record: { ...KILLED, exit_code: null }, kill: byTerm("accepted") },
    ],
    ["a log that lacks a byte", /lacks lines/, { log: WHOLE.replace("line 2", "lin 2") }],
    ["a log that lacks its end", /lacks lines/, { log: WHOLE.slice(0, -8) }],
    ["a log with its lines out of order", /lacks lines/, { log: WHOLE.split("\n").toReversed().join("\n") }],
    ["a log with the lines of another", /did not write/, { log: `j7 done\n${WHOLE}` }],
    ["pages that are not the file", /pages are not the file/, { onDisk: `${WHOLE}more\n` }],
    [
      "a terminal's log that lacks a line, with free disk space",
      /lacks lines/,
      { terminal: true, log: WHOLE.slice(0, -8) },
    ],
  ])("reports %s", ([, expected, story]) => {
    expect(judged(story).join("\n")).toMatch(expected);
  });
});

describe("the records that a client of the crash harness has seen", () => {
  test.for<[string, RegExp, Partial<RunRecord>[]]>([
    ["a run that runs again", /is running again/, [{}, { status: "running", ended_at: null }]],
    ["a status that changes after the end", /changed after its end/, [{}, { status: "unknown" }]],
    ["a reason that changes after the end", /changed after its end/, [{}, { status_reason: "Another" }]],
    ["an end that moves", /changed after its end/, [{}, { ended_at: STARTED + 3 }]],
    ["a run that runs and has ended", /is running and ended at/, [{ status: "running" }]],
    ["a run that failed and has not ended", /is failed and ended at null/, [{ ended_at: null }]],
    ["an end before the start", /ended before it started/, [{ ended_at: STARTED - 1 }]],
  ])("reveal %s", ([, expected, records]) => {
    const facts = createFacts();
    for (const record of records) facts.see({ ...RECORD, ...record });
    expect(facts.violations.join("\n")).toMatch(expected);
  });

  test("reveal no fault when a run is killed, ends and does not change again", () => {
    const facts = createFacts();
    for (const record of [
      { status: "running", ended_at: null },
      { ...KILLED, ended_at: null },
      KILLED,
      KILLED,
    ])
      facts.see({ ...RECORD, ...(record as Partial<RunRecord>) });
    expect(facts.violations).toEqual([]);
  });
});
