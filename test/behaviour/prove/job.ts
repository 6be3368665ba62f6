import type { Source } from "../../../host-agent/protocol/run.ts";
import type { Random } from "./random.ts";

/** Each takes the start of another Node. */
const TERMINAL_SHARE = 0.08;
/** How long a child would live if nobody ended it: longer than any round, and unlike a job's own pause. */
const CHILD_SECONDS = 300;

/** What one job is asked to do. */
export interface Job {
  /** Unlike any other job's. */
  id: string;
  lines: number;
  exitCode: number;
  pauseMs: number;
  /** What it leaves behind, which only a kill or the end of the round ends. */
  child: "none" | "child" | "daemon";
  source: Source;
  terminal: boolean;
}

/**
 * job.sh LEDGER ID LINES CODE SECONDS CHILD: notes in the ledger that it runs
 * and, at the end, how many of its lines it could not write to its log.
 */
export const JOB_SH = `#!/bin/sh
echo "start $HUB_RUN_ID $2" >>"$1"
case "$6" in
  child) sleep ${CHILD_SECONDS} & ;;
  daemon) setsid sleep ${CHILD_SECONDS} & ;;
esac
lost=0
i=0
while [ "$i" -lt "$3" ]; do
  i=$((i + 1))
  echo "$2 line $i of $3" 2>/dev/null || lost=$((lost + 1))
done
sleep "$5"
echo "$2 done" 2>/dev/null || lost=$((lost + 1))
echo "end $HUB_RUN_ID $2 $lost" >>"$1"
exit "$4"
`;

/** True of the command line of what a job leaves behind. */
export function isJobsChild(command: string): boolean {
  return command.includes(`sleep\0${CHILD_SECONDS}`);
}

/** One of a burst: short, and with nothing left behind. */
export function burstJob(id: string, random: Random): Job {
  const job = randomJob(id, random, false);
  return { ...job, lines: random.pick([0, 1, 3]), pauseMs: random.between(0, 40), child: "none" };
}

export function randomJob(id: string, random: Random, hasTerminals: boolean): Job {
  return {
    id,
    lines: random.pick([0, 1, 3, 20, 60]),
    exitCode: random.pick([0, 0, 0, 1, 9, 42, 77]),
    pauseMs: random.between(0, 120),
    child: random.pick(["none", "none", "none", "child", "daemon"]),
    source: random.pick(["script", "script", "pipeline"]),
    terminal: random.chance(TERMINAL_SHARE) && hasTerminals,
  };
}

export function jobArgs(job: Job, ledger: string): string {
  return `${ledger} ${job.id} ${job.lines} ${job.exitCode} ${job.pauseMs / 1000} ${job.child}`;
}

/** The lines of the job's whole log. */
export function expectedLines({ id, lines }: Job): string[] {
  return [...Array.from({ length: lines }, (_, i) => `${id} line ${i + 1} of ${lines}`), `${id} done`];
}

/** What the ledger says of one run. */
export interface LedgerEntry {
  runId: string;
  jobId: string;
  starts: number;
  /** Set once the job has come to its end. */
  linesLost: number | undefined;
}

/** Reads a ledger: one entry for each run that ever started. */
export function readLedger(text: string): Map<string, LedgerEntry> {
  const entries = new Map<string, LedgerEntry>();
  for (const line of text.split("\n").filter((each) => each !== "")) {
    const [event, runId, jobId, lost] = line.split(" ") as [string, string, string, string?];
    const entry = entries.get(runId) ?? { runId, jobId, starts: 0, linesLost: undefined };
    entries.set(runId, entry);
    if (event === "start") entry.starts++;
    else entry.linesLost = Number(lost);
  }
  return entries;
}
