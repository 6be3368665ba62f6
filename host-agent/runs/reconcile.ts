import type { Ended, Executor, Observation } from "../executor/executor.ts";
import type { ProcessIdentity } from "../executor/executor.ts";
import { readTail } from "../logs/log-file.ts";
import { cutLog, logIdentity } from "../logs/log-limit.ts";
import type { AdvisoryLock } from "../store/advisory-lock.ts";
import type { Run, RunChanges } from "../store/run.ts";
import type { RunStore } from "../store/run-store.ts";
import { signalOfExitCode } from "../system/signals.ts";
import { handleOf } from "./handle.ts";
import { classify, type Ending, NEVER_STARTED, type Outcome } from "./outcome.ts";

const TAIL_BYTES = 8_192;

export interface ReconcileDeps {
  store: RunStore;
  executor: Executor;
  signalLock: AdvisoryLock;
  now(): number;
  /** Tells which error markers count for a run, by the recipes file as it is now. */
  markers(): Promise<MarkersOf>;
  /** This agent. */
  self: ProcessIdentity;
  /** Whether another agent is alive. */
  isAgentAlive(agent: ProcessIdentity): boolean;
  /** True while this agent is in the middle of launching the run. */
  isLaunching(runId: string): boolean;
}

/** What is to be written of a run; undefined when it is as it is to be. */
interface Decided {
  run: Run;
  changes: RunChanges | undefined;
}

/** The error markers that count for this run. */
export type MarkersOf = (run: Run) => readonly RegExp[];

/** The looks at one run and at many, as `createReconcile` makes them. */
export type Reconcile = ReturnType<typeof createReconcile>;

/**
 * Finds out what runs that were alive are now, and records what has changed. It looks first, outside any
 * lock, and then writes by compare-and-set: what another agent has changed meanwhile remains. A run that
 * cannot be looked at stays as it is.
 */
export function createReconcile(deps: ReconcileDeps) {
  const { store, executor, signalLock, now } = deps;

  /** The run as it is now. Throws when it cannot be looked at. */
  async function reconcile(known: Run): Promise<Run> {
    if (known.endedAt !== undefined) return known;
    const run = currentOf(known);
    if (run.endedAt !== undefined) return run;
    if (run.status === "launching") return reconcileLaunch(run);
    if (look([run])[0]!.state === "running") return run;
    const markersOf = await deps.markers();
    // A kill may have been recorded while they were read.
    const current = currentOf(run);
    return current.endedAt === undefined ? apply(current, look([current])[0]!, markersOf) : current;
  }

  /** The same for many, with one write to the disk; `failures` are of runs that could not be looked at and are returned as they were. */
  async function reconcileAll(known: readonly Run[]): Promise<{ runs: Run[]; failures: unknown[] }> {
    const markersOf = await deps.markers();
    const failures: unknown[] = [];
    for (const run of known.filter(({ status }) => status === "launching")) {
      await reconcile(run).catch((error: unknown) => failures.push(error));
    }
    // From here on nothing is awaited: what another request has reported meanwhile is never taken back.
    const current = known.map((run) => (run.endedAt === undefined ? currentOf(run) : run));
    const decided = decideAll(current, markersOf, failures);
    const written = writeAll(decided, failures);
    return { runs: current.map((run) => written.get(run.runId) ?? run), failures };
  }

  /** What is to be written of each run, or a run that was written already. A failure of one costs no other. */
  function decideAll(current: readonly Run[], markersOf: MarkersOf, failures: unknown[]): Decided[] {
    const started = current.filter((run) => run.endedAt === undefined && run.status !== "launching");
    const observations = look(started);
    const decided: Decided[] = [];
    for (const [i, run] of started.entries()) {
      try {
        const observation = observations[i]!;
        if (isSignalDue(run)) {
          decided.push({ run: apply(run, observation, markersOf), changes: undefined });
          continue;
        }
        const changes = decide(run, observation, markersOf);
        if (changes !== undefined) decided.push({ run, changes });
      } catch (error) {
        failures.push(error);
      }
    }
    return decided;
  }

  /** Writes once to the disk, and not at all when there is nothing to write. */
  function writeAll(decided: readonly Decided[], failures: unknown[]): Map<string, Run> {
    const written = new Map(decided.map(({ run }) => [run.runId, run]));
    if (decided.every(({ changes }) => changes === undefined)) return written;
    store.inOneWrite(() => {
      for (const { run, changes } of decided) {
        if (changes === undefined) continue;
        try {
          written.set(run.runId, write(run, changes));
        } catch (error) {
          failures.push(error);
        }
      }
    });
    return written;
  }

  function currentOf(known: Run): Run {
    return store.get(known.runId) ?? known;
  }

  function look(runs: readonly Run[]): Observation[] {
    return executor.look(runs.map((run) => ({ handle: handleOf(run), wholeTree: run.stop?.sent ?? false })));
  }

  function apply(run: Run, observation: Observation, markersOf: MarkersOf): Run {
    const record = (current: Run, seen: Observation): Run => {
      const changes = decide(current, seen, markersOf);
      return changes === undefined ? current : write(current, changes);
    };
    if (!isSignalDue(run)) return record(run, observation);
    // An agent may be about to record that it has sent the signal: that decides what the run's end means.
    return signalLock.hold(() => {
      const current = currentOf(run);
      if (current.endedAt !== undefined) return current;
      return record(current, isSignalDue(current) ? observation : look([current])[0]!);
    });
  }

  /** What another agent has written meanwhile remains: the next look uses it. */
  function write(run: Run, changes: RunChanges): Run {
    return store.change(run, changes) ?? currentOf(run);
  }

  /** What an observation changes of a run; undefined for nothing. Reads the log of a run that has ended. */
  function decide(run: Run, observation: Observation, markersOf: MarkersOf): RunChanges | undefined {
    const { state } = observation;
    if (state === "unavailable") throw observation.cause;
    if (state === "ended") return endOf(run, observation, markersOf(run));
    const isNews = state === "orphaned" && run.status === "running" && run.statusReason !== ORPHANED;
    return isNews ? { statusReason: ORPHANED } : undefined;
  }

  function endOf(run: Run, { exitCode, at, ...ended }: Ended, markers: readonly RegExp[]): RunChanges {
    const logCut = cutLogOf(run);
    const logTail = logCut ? "" : readTail(run.logPath, TAIL_BYTES);
    const stop = effectiveStop(run, exitCode);
    const outcome: Outcome =
      !ended.commandStarted && !stop
        ? NEVER_STARTED
        : classify({ exitCode, logTail, logCut, rebooted: ended.rebooted, markers, stop });
    return { ...outcome, endedAt: Math.max(at ?? now(), run.startedAt) };
  }

  async function reconcileLaunch(run: Run): Promise<Run> {
    if (deps.isLaunching(run.runId)) return run;
    const { launcher } = run;
    const isOurs = launcher.pid === deps.self.pid && launcher.startTime === deps.self.startTime;
    if (!isOurs && deps.isAgentAlive(launcher)) return run;
    const recovered = await executor.recover(run.runId, launcher.bootId);
    if (recovered === "never_started") {
      // Its token may start another run: the command has not been started and never will be.
      return store.failLaunch(run.runId, { reason: INTERRUPTED, endedAt: now() });
    }
    const adopted = store.change(run, {
      status: "running",
      statusReason: ALIVE,
      process: recovered.process,
      logFile: logIdentity(run.logPath),
    });
    return reconcile(adopted ?? currentOf(run));
  }

  return { reconcile, reconcileAll };
}

/** A stop was recorded and, as far as is known, its signal has not been sent. */
function isSignalDue({ stop }: Run): boolean {
  return stop !== undefined && !stop.sent;
}

/** The reason of a run whose process is alive. */
export const ALIVE = "The process is alive.";
const ORPHANED =
  "Processes of the run are alive, but the wrapper that would keep its exit code was killed on the host.";
const INTERRUPTED = "Launch interrupted: the host-agent stopped before the command was started.";

/** Cuts the log of a run that is over its limit. True when it is. */
export function cutLogOf({ logPath, logLimit, logFile }: Run): boolean {
  return logLimit !== undefined && logFile !== undefined && cutLog(logPath, logLimit, logFile);
}

/** The stop that counts for the run's end: one whose signal was sent, or has had its effect. */
function effectiveStop(run: Run, exitCode: number | undefined): Ending["stop"] {
  const { stop } = run;
  if (stop === undefined) return undefined;
  // An agent that dies after it has sent a signal and before it has recorded that leaves the order and its effect.
  const isEffect = exitCode !== undefined && signalOfExitCode(exitCode) === stop.signal;
  if (!stop.sent && !isEffect) return undefined;
  return { ...stop, timeoutSeconds: run.timeoutSeconds, logLimit: run.logLimit };
}
