import type { RunEnds } from "../executor/executor.ts";
import type { Run } from "../store/run.ts";
import type { RunStore } from "../store/run-store.ts";

/** Each run that may be alive is looked at within this number of rounds, one a second. */
const ROUNDS = 60;
/** The fewest looks in a round: a host with few runs looks at each of them every second. */
const MIN_SHARE = 20;
/** The most looks in a round, however many runs are alive. */
const MAX_SHARE = 300;

/**
 * The net under the reports of ends, which can be lost: goes round all runs that may be alive, a share in each round, at most
 * MAX_SHARE. Runs that are new, as those that another agent on this state folder has launched, come first. The first time
 * round, after a start, each share is the largest.
 */
export function createSweep(store: RunStore, ends: RunEnds): { next(): Run[] } {
  let newest: number | undefined;
  let after = 0;
  let isFirst = true;
  let seen = new Set<string>();

  function share(): number {
    if (isFirst) return MAX_SHARE;
    return Math.min(Math.max(Math.ceil(store.countAlive() / ROUNDS), MIN_SHARE), MAX_SHARE);
  }

  function newRuns(): Run[] {
    // The others are found by going round.
    newest ??= store.newestSeq();
    const { runs } = store.aliveAfter(newest, MAX_SHARE);
    newest = runs.at(-1)?.seq ?? newest;
    return runs;
  }

  /** Runs whose end another agent has recorded are reported by nobody. */
  function unfollowEnded(): void {
    for (const runId of ends.followed()) {
      if (!seen.has(runId) && store.get(runId)?.endedAt !== undefined) ends.unfollow(runId);
    }
    seen = new Set();
  }

  return {
    /** The runs to look at in this round. */
    next() {
      const fresh = newRuns();
      const { runs, next } = store.aliveAfter(after, share());
      for (const { runId } of runs) seen.add(runId);
      after = next ?? 0;
      if (next === undefined) {
        isFirst = false;
        unfollowEnded();
      }
      return [...fresh, ...runs];
    },
  };
}
