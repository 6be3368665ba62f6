import type { Run } from "./run.ts";

/** This number of runs is remembered; the one that was read first is forgotten first. */
const MAX_RUNS = 512;
/** In UTF-16 units: a run with a longer command line and spec is read again each time. */
const MAX_TEXT = 4_096;
/** A run that another agent has removed is shown for this time. */
const TRUSTED_FOR_MS = 1_000;

/**
 * Runs that have ended, decoded, by id. Nothing of them changes any more, except that their launch token may be freed
 * (ask `findByToken` who holds it) and that they can be removed from the database.
 */
export type EndedRuns = ReturnType<typeof rememberEndedRuns>;

/**
 * Saves reading and decoding a whole row each time that a client asks for the same run. Holds at most about 2 MB of
 * text. `isKept` tells whether the database still has a run; `now` is a clock in milliseconds that never goes back.
 */
export function rememberEndedRuns(
  isKept: (run: Run) => boolean,
  now: () => number = () => performance.now(),
) {
  const known = new Map<string, { run: Run; seenAt: number }>();

  function forget(runId: string): void {
    known.delete(runId);
  }

  return {
    /** Undefined for a run that is not remembered, and for one that was removed more than a second ago. */
    get(runId: string): Run | undefined {
      const entry = known.get(runId);
      if (entry === undefined) return undefined;
      const at = now();
      if (at - entry.seenAt >= TRUSTED_FOR_MS) {
        if (!isKept(entry.run)) {
          forget(runId);
          return undefined;
        }
        entry.seenAt = at;
      }
      return entry.run;
    },

    /** Remembers the run, if it has ended and is not large. */
    note(run: Run): void {
      if (run.endedAt === undefined || run.cmd.length + JSON.stringify(run.spec).length > MAX_TEXT) return;
      if (known.size >= MAX_RUNS) forget(known.keys().next().value!);
      known.set(run.runId, { run, seenAt: now() });
    },

    forget,
  };
}
