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
}

/** A kill that was asked for, and what was answered. */
export interface KillFact {
  order: { signal?: "SIGKILL" | "SIGINT"; grace_seconds?: number };
  answer: "accepted" | "refused" | "uncertain";
}

/** Something that must not be. */
export type Violation = string;

/** All that is known of the runs of a world, over all its rounds. */
export function createFacts() {
  /** The first terminal record that was seen of each run. */
  const terminal = new Map<string, string>();
  const violations: Violation[] = [];
  return {
    violations,
    violate: (text: Violation) => void violations.push(text),
    /** Runs whose wrapper or job got a signal from the saboteur that may end it. */
    harmed: new Map<string, Set<string>>(),
    kills: new Map<string, KillFact>(),
    counts: new Map<string, number>(),
    count(what: string): void {
      this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
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
