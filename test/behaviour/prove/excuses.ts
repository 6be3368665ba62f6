import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import type { Exhausted, Facts, JobFacts, KillFact } from "./facts.ts";
import type { LedgerEntry } from "./job.ts";

/** What is wrong with a run, unless a harm of the saboteur has this very effect. */
export type Fault =
  | "never ran"
  | "cut short"
  | "no exit code"
  | "another exit code"
  | "failed with exit code 0"
  | "killed without an answer"
  | "log lacks lines"
  | "words of the shell in the log"
  | "torn last line of the log";

/** What an excuse may look at: what was done to one run, and what has come of it. */
export interface Circumstances {
  record: Pick<RunRecord, "run_id" | "status" | "status_reason" | "exit_code">;
  entry: LedgerEntry | undefined;
  isAcknowledged: boolean;
  isTerminal: boolean;
  harm: ReadonlySet<string>;
  kill: KillFact | undefined;
  /** What the disk lacked at some time from the first request for the job on. */
  lacked: ReadonlySet<Exhausted>;
  /** What the disk lacked while the job was being launched. */
  lackedAtLaunch: ReadonlySet<Exhausted>;
  /** The host lost power after the first request for the job. */
  powerLost: boolean;
}

/** One effect of one harm: `holds` is true only for a run that bears the marks of it. */
export interface Excuse {
  fault: Fault;
  because: string;
  holds(run: Circumstances): boolean;
}

/** A launch that is starting takes a while from its answer to its first write, on a host under load. */
const LAUNCH_MARGIN_MS = 1_000;
const NEVER_STARTED = /^The command was never started: /;
const NO_ROOM = /^The command was never started: |^The host cannot start anything now \(ENOSPC\); /;
/** The reason of a run that no client learned of, because its launcher died before. */
const INTERRUPTED = /^Launch interrupted: /;
const REBOOTED = /^The host was restarted /;
const SHELLS_ERROR = /the end of its log has an error: .*(?:Killed|Terminated)/;
const BY_FORCE = /then SIGKILL after the grace period/;

const codeOf = { SIGKILL: 137, SIGTERM: 143, SIGINT: 130 };
const isKilled = ({ record, kill }: Circumstances) =>
  record.status === "killed" && kill !== undefined && kill.answer !== "refused";
/** What a command that catches nothing ends with. */
const codesOfKill = ({ signal, grace_seconds }: KillFact["order"]): number[] =>
  grace_seconds === undefined ? [codeOf[signal ?? "SIGTERM"]] : [codeOf[signal ?? "SIGTERM"], codeOf.SIGKILL];
const neverStarted = ({ record, entry }: Circumstances, reason: RegExp) =>
  entry === undefined && record.status === "failed" && reason.test(record.status_reason);
const isOfLostPower = (run: Circumstances) =>
  run.powerLost &&
  run.record.exit_code === null &&
  (isKilled(run) || (run.record.status === "unknown" && REBOOTED.test(run.record.status_reason)));
const lostItsWrapper = (run: Circumstances) =>
  run.harm.has("wrapper SIGKILL") &&
  run.record.exit_code === null &&
  (run.record.status === "unknown" || isKilled(run) || neverStarted(run, NEVER_STARTED));

/** A signal that ended the job: its exit code tells, unless nobody was left to keep it. */
function endedJob(signal: "SIGKILL" | "SIGTERM"): (run: Circumstances) => boolean {
  return (run) =>
    run.harm.has(`job ${signal}`) && (run.record.exit_code === codeOf[signal] || lostItsWrapper(run));
}

/** All that is ever excused. Whatever no line of it names is a violation. */
export const EXCUSES: readonly Excuse[] = [
  { fault: "never ran", because: "its wrapper was sent SIGKILL", holds: lostItsWrapper },
  {
    fault: "never ran",
    because: "its wrapper was sent SIGTERM before it could catch it",
    holds: (run) => run.harm.has("wrapper SIGTERM") && neverStarted(run, NEVER_STARTED),
  },
  ...(["SIGKILL", "SIGTERM"] as const).flatMap((signal): Excuse[] => [
    { fault: "never ran", because: `its command was sent ${signal}`, holds: endedJob(signal) },
    { fault: "cut short", because: `its command was sent ${signal}`, holds: endedJob(signal) },
    {
      fault: "another exit code",
      because: `its command was sent ${signal}`,
      holds: ({ harm, record }) => harm.has(`job ${signal}`) && record.exit_code === codeOf[signal],
    },
    {
      fault: "failed with exit code 0",
      because: `a process of its command was sent ${signal}, and the shell reports it in the log`,
      holds: ({ harm, record }) => harm.has(`job ${signal}`) && SHELLS_ERROR.test(record.status_reason),
    },
    {
      fault: "words of the shell in the log",
      because: `its command was sent ${signal}`,
      holds: ({ harm }) => harm.has(`job ${signal}`),
    },
    {
      fault: "torn last line of the log",
      because: `its command was sent ${signal}`,
      holds: (run) => run.entry?.linesLost === undefined && run.harm.has(`job ${signal}`),
    },
  ]),
  {
    fault: "never ran",
    because: "the disk was full when it was launched",
    holds: (run) => run.lackedAtLaunch.size > 0 && neverStarted(run, NO_ROOM),
  },
  { fault: "never ran", because: "it was killed", holds: isKilled },
  { fault: "never ran", because: "the host lost power", holds: isOfLostPower },
  { fault: "cut short", because: "it was killed", holds: isKilled },
  { fault: "cut short", because: "the host lost power", holds: isOfLostPower },
  { fault: "no exit code", because: "its wrapper was sent SIGKILL", holds: lostItsWrapper },
  {
    fault: "no exit code",
    because: "its wrapper was sent SIGTERM before it could catch it",
    holds: (run) => run.harm.has("wrapper SIGTERM") && neverStarted(run, NEVER_STARTED),
  },
  {
    fault: "no exit code",
    because: "a kill by SIGKILL ended its wrapper too",
    holds: (run) =>
      isKilled(run) &&
      (run.kill!.order.signal === "SIGKILL" ||
        (run.kill!.order.grace_seconds !== undefined && BY_FORCE.test(run.record.status_reason))),
  },
  {
    fault: "no exit code",
    because: "the disk was full when it was launched",
    holds: (run) => run.lackedAtLaunch.size > 0 && neverStarted(run, NO_ROOM),
  },
  {
    fault: "no exit code",
    because: "its launch was interrupted, and no client has its id",
    holds: (run) => !run.isAcknowledged && neverStarted(run, INTERRUPTED),
  },
  { fault: "no exit code", because: "the host lost power", holds: isOfLostPower },
  {
    fault: "another exit code",
    because: "it was killed",
    holds: (run) => isKilled(run) && codesOfKill(run.kill!.order).includes(run.record.exit_code!),
  },
  {
    fault: "killed without an answer",
    because: "the answer to its kill was lost",
    holds: ({ kill }) => kill?.answer === "uncertain",
  },
  {
    fault: "log lacks lines",
    because: "the disk was full, which its pump hides from the job",
    holds: ({ lacked }) => lacked.has("blocks"),
  },
  {
    fault: "log lacks lines",
    because: "the host lost power before the end of the log was on the disk",
    holds: ({ powerLost }) => powerLost,
  },
  { fault: "words of the shell in the log", because: "it was killed", holds: isKilled },
  {
    fault: "torn last line of the log",
    because: "it was killed",
    holds: (run) => run.entry?.linesLost === undefined && isKilled(run),
  },
  {
    fault: "torn last line of the log",
    because: "the disk was full",
    holds: ({ lacked }) => lacked.has("blocks"),
  },
  {
    fault: "torn last line of the log",
    because: "the host lost power",
    holds: ({ powerLost }) => powerLost,
  },
];

/** Whether a harm excuses this fault of a run; counts the excuse. */
export function isExcused(fault: Fault, run: Circumstances, facts: Facts): boolean {
  const excuse = EXCUSES.find((each) => each.fault === fault && each.holds(run));
  if (!excuse) return false;
  facts.excuse(`${fault}: ${excuse.because}`);
  return true;
}

/** All that may have had an effect on this run of a job. */
export function circumstancesOf(
  record: Circumstances["record"],
  entry: LedgerEntry | undefined,
  { job, acknowledged, asked }: JobFacts,
  facts: Facts,
): Circumstances {
  const { from, to } = asked ?? { from: Infinity, to: -Infinity };
  const full = facts.full.filter((each) => each.to >= from);
  return {
    record,
    entry,
    isAcknowledged: acknowledged.has(record.run_id),
    isTerminal: job.terminal,
    harm: facts.harmed.get(record.run_id) ?? new Set(),
    kill: facts.kills.get(record.run_id),
    lacked: new Set(full.map(({ of }) => of)),
    lackedAtLaunch: new Set(full.filter((each) => each.from <= to + LAUNCH_MARGIN_MS).map(({ of }) => of)),
    powerLost: facts.powerLost.some((at) => at >= from),
  };
}
