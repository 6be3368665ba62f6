import type { Executor, Observation } from "../executor/executor.ts";
import type { AdvisoryLock } from "../store/advisory-lock.ts";
import type { Run, RunChanges } from "../store/run.ts";
import type { RunStore } from "../store/run-store.ts";
import { isUnwritable } from "../store/sqlite-errors.ts";
import { createPatience } from "../system/patience.ts";
import { changesBy, isEffectOf, type MarkersOf } from "./end-of-run.ts";
import { handleOf } from "./handle.ts";

/** For so long a log is read again before its run ends without it. */
const UNREADABLE_FOR_MS = 300_000;

export interface ObserveDeps {
  store: RunStore;
  executor: Executor;
  signalLock: AdvisoryLock;
  now(): number;
}

export type Observer = ReturnType<typeof createObserver>;

/** Looks at runs outside any lock, and records what was seen by compare-and-set: what another agent has changed meanwhile remains. */
export function createObserver({ store, executor, signalLock, now }: ObserveDeps) {
  /** For logs that cannot be read. */
  const patience = createPatience(UNREADABLE_FOR_MS);

  function currentOf(known: Run): Run {
    return store.get(known.runId) ?? known;
  }

  async function look(runs: readonly Run[]): Promise<Observation[]> {
    return executor.look(runs.map((run) => ({ handle: handleOf(run), wholeTree: run.stop?.sent ?? false })));
  }

  /**
   * What is seen of a run whose signal is due. A run with the effect of the signal ends with all of its processes: the agent that
   * died before it recorded the signal may not have sent it to each of them.
   */
  async function lookBeforeSignal(run: Run, observation: Observation): Promise<Observation> {
    const isPart = observation.state === "ended" && isEffectOf(run.stop!, observation.exitCode);
    return isPart ? (await executor.look([{ handle: handleOf(run), wholeTree: true }]))[0]! : observation;
  }

  function changesOf(run: Run, observation: Observation, markersOf: MarkersOf): RunChanges | undefined {
    return changesBy(run, observation, { markersOf, now: now(), patience });
  }

  /** Why the last write failed, though the host could be looked at; undefined after one that succeeded. */
  let writeError: unknown;
  let isInOneWrite = false;

  /**
   * What another agent has written meanwhile remains: the next look uses it. What cannot be written now is not reported
   * either: it might be reported differently later.
   */
  function write(run: Run, changes: RunChanges): Run {
    return unlessUnwritable(run, () => store.change(run, changes) ?? currentOf(run));
  }

  function unlessUnwritable(run: Run, work: () => Run): Run {
    try {
      const written = work();
      writeError = undefined;
      return written;
    } catch (error) {
      // Of several writes in one, all are undone: who makes them has to know.
      if (!isUnwritable(error) || isInOneWrite) throw error;
      writeError = error;
      return unwritten(run);
    }
  }

  function record(run: Run, observation: Observation, markersOf: MarkersOf): Run {
    const changes = changesOf(run, observation, markersOf);
    return changes === undefined ? currentOf(run) : release(write(run, changes));
  }

  /** Has the cgroup of a run removed whose end is recorded by now. What fails here, the sweep of the executor does later. */
  function release(run: Run): Run {
    if (run.endedAt !== undefined && run.cgroup !== undefined) {
      executor.release(run.cgroup, { kill: run.killLeftBehind === true }).catch(() => undefined);
    }
    return run;
  }

  return {
    currentOf,
    look,
    changesOf,
    write,
    release,
    /** Runs `work` as one write to the disk; the error when nothing could be written now. Then each `write` in it throws. */
    inOneWrite(work: () => void): unknown {
      isInOneWrite = true;
      try {
        store.inOneWrite(work);
        return undefined;
      } catch (error) {
        if (!isUnwritable(error)) throw error;
        return (writeError = error);
      } finally {
        isInOneWrite = false;
      }
    },
    writeError: () => writeError,
    /** What could not be written was written since, by this agent or another. */
    nothingToWrite: () => void (writeError = undefined),
    /** Records what was seen of a run. Throws when it could not be looked at. */
    async apply(run: Run, observation: Observation, markersOf: MarkersOf): Promise<Run> {
      if (!isSignalDue(run)) return record(run, observation, markersOf);
      // An agent may be about to record that it has sent the signal: that decides what the run's end means.
      return signalLock.hold(async () => {
        const current = currentOf(run);
        if (current.endedAt !== undefined) return current;
        const seen = isSignalDue(current)
          ? await lookBeforeSignal(current, observation)
          : (await look([current]))[0]!;
        return record(current, seen, markersOf);
      });
    },
  };
}

/** A run whose change could not be written, as it is shown. */
function unwritten(run: Run): Run {
  return { ...run, statusReason: UNWRITTEN };
}

const UNWRITTEN = "Its state has changed, but the host cannot write that now: its disk may be full.";

/** A stop was recorded and, as far as is known, its signal has not been sent. */
export function isSignalDue({ stop }: Run): boolean {
  return stop !== undefined && !stop.sent;
}
