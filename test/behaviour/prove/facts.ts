import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import type { Job } from "./job.ts";

/** What a client knows of one job that it asked for. */
export interface JobFacts {
  job: Job;
  /** Undefined for a client that sends no Idempotency-Key, and so sends once. */
  key: string | undefined;
  /** The runs that answers of 201 have named. */
  acknowledged: Set<string>;
  /** Every run of it that was found at the end of its round. */
  found: Set<string>;
  /** The runs of this job from before the key was free again. */
  earlier: ReadonlySet<string>;
  /** From the first request for it to the last answer, in epoch milliseconds; undefined before the first. */
  asked: Stretch | undefined;
  /** When its key was first used, if another launch used it before; in epoch milliseconds. */
  keySince: number | undefined;
  /** Answers that say that nothing was started. */
  denials: number;
}

/** A stretch of real time, in epoch milliseconds. */
export interface Stretch {
  from: number;
  to: number;
}

/** What of a disk was used up: space for bytes, or for files. */
export type Exhausted = "blocks" | "inodes";

/** A kill that was asked for, and what was answered. */
export interface KillFact {
  order: { signal?: "SIGKILL" | "SIGINT"; grace_seconds?: number };
  answer: "accepted" | "refused" | "uncertain";
}

/** Something that must not be. */
export type Violation = string;

/** The facts of a job before anybody has asked for it. */
export function newJobFacts(job: Job, key: string | undefined): JobFacts {
  const none = { acknowledged: new Set<string>(), found: new Set<string>(), earlier: new Set<string>() };
  return { job, key, ...none, asked: undefined, keySince: undefined, denials: 0 };
}

/** All that is known of the runs of a world, over all its rounds. */
export function createFacts() {
  /** The first terminal record that was seen of each run. */
  const terminal = new Map<string, string>();
  const violations: Violation[] = [];
  return {
    violations,
    violate: (text: Violation) => void violations.push(text),
    /** The signals of the saboteur that reached a run's wrapper or job, and may end it. */
    harmed: new Map<string, Set<string>>(),
    kills: new Map<string, KillFact>(),
    /** When the disk was full. */
    full: [] as (Stretch & { of: Exhausted })[],
    /** When the host lost power, in epoch milliseconds. */
    powerLost: [] as number[],
    /** When the wall clock was set back. */
    setBack: [] as number[],
    counts: new Map<string, number>(),
    /** How often something was accepted only because of the saboteur, by what and why. */
    excused: new Map<string, number>(),
    count(what: string, n = 1): void {
      this.counts.set(what, (this.counts.get(what) ?? 0) + n);
    },
    excuse(what: string): void {
      this.excused.set(what, (this.excused.get(what) ?? 0) + 1);
    },
    /** Takes down a record that the API has shown: once terminal, it may never differ again. */
    see(record: RunRecord): void {
      const { status, started_at, ended_at } = record;
      const isAlive = ended_at === null;
      // Killed is what it is called as soon as the signal is sent.
      if (status !== "killed" && isAlive !== (status === "running"))
        violations.push(`${record.run_id} is ${status} and ended at ${ended_at}`);
      if (!isAlive && ended_at < started_at && !terminal.has(record.run_id))
        violations.push(`${record.run_id} ended before it started: ${JSON.stringify(record)}`);
      if (isAlive) {
        if (terminal.has(record.run_id))
          violations.push(`${record.run_id} is ${record.status} again: ${JSON.stringify(record)}`);
        return;
      }
      const text = JSON.stringify(record);
      const first = terminal.get(record.run_id) ?? text;
      terminal.set(record.run_id, first);
      if (first !== text) violations.push(`${record.run_id} changed after its end:\n  ${first}\n  ${text}`);
    },
    terminalRuns: () => [...terminal.keys()],
  };
}

export type Facts = ReturnType<typeof createFacts>;
