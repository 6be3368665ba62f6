import type { Run, RunChanges } from "../store/run.ts";
import { isUnwritable } from "../store/sqlite-errors.ts";
import type { MarkersOf } from "./end-of-run.ts";
import { createObserver, isSignalDue, type ObserveDeps, type Observer } from "./observe.ts";
import { type RecoverDeps, recoverLaunch } from "./recover-launch.ts";

export interface ReconcileDeps extends ObserveDeps, RecoverDeps {
  /** Tells which error markers count for a run, by the recipes file as it is now. */
  markers(): Promise<MarkersOf>;
}

/** What a look at many runs has found. */
export interface Reconciled {
  runs: Run[];
  /** Of runs that could not be looked at and are returned as they were. */
  failures: unknown[];
  /** The ids of those that were not seen under a living wrapper: those that have not ended are to be looked at again soon. */
  unsure: Set<string>;
}

/** The looks at one run and at many, as `createReconcile` makes them. */
export type Reconcile = ReturnType<typeof createReconcile>;

/** Finds out what runs that were alive are now, and records what has changed. A run that cannot be looked at stays as it is. */
export function createReconcile(deps: ReconcileDeps) {
  const observer = createObserver(deps);

  /** The run as it is now. Throws when it cannot be looked at. */
  async function reconcile(known: Run): Promise<Run> {
    if (known.endedAt !== undefined) return known;
    const found = observer.currentOf(known);
    const run = found.status === "launching" ? await recoverLaunch(found, deps) : found;
    if (run.endedAt !== undefined || run.status === "launching" || deps.isLaunching(run.runId)) return run;
    if ((await observer.look([run]))[0]!.state === "running") return observer.currentOf(run);
    const markersOf = await deps.markers();
    // A kill may have been recorded while they were read.
    const current = observer.currentOf(run);
    if (current.endedAt !== undefined) return current;
    return observer.apply(current, (await observer.look([current]))[0]!, markersOf);
  }

  /** The same for many, with one write to the disk. */
  async function reconcileAll(known: readonly Run[]): Promise<Reconciled> {
    const markersOf = await deps.markers();
    const failures: unknown[] = [];
    const unsure = new Set<string>();
    for (const run of known.filter(({ status }) => status === "launching")) {
      await reconcile(run).catch((error: unknown) => failures.push(error));
    }
    const current = known.map((run) => (run.endedAt === undefined ? observer.currentOf(run) : run));
    const decided = await decideAll(
      // What a launch that is under way here has started, it may still refuse: the end is recorded after it.
      current.filter(({ runId }) => !deps.isLaunching(runId)),
      { observer, markersOf, failures, unsure },
    );
    for (const { runId } of current) if (deps.isLaunching(runId)) unsure.add(runId);
    // From here on nothing is awaited: what another request has reported meanwhile is never taken back.
    const written = writeAll(decided, { observer, failures });
    return {
      runs: current.map((run) =>
        run.endedAt === undefined ? (written.get(run.runId) ?? observer.currentOf(run)) : run,
      ),
      failures,
      unsure,
    };
  }

  return { reconcile, reconcileAll, writeError: observer.writeError };
}

/** What is to be written of a run. */
interface Decided {
  run: Run;
  changes: RunChanges;
}

/** What is to be written of each run; a run whose signal is due is written by then. A failure of one costs no other. */
async function decideAll(
  current: readonly Run[],
  {
    observer,
    markersOf,
    failures,
    unsure,
  }: { observer: Observer; markersOf: MarkersOf } & Pick<Reconciled, "failures" | "unsure">,
): Promise<Decided[]> {
  const started = current.filter((run) => run.endedAt === undefined && run.status !== "launching");
  const observations = await observer.look(started);
  const decided: Decided[] = [];
  for (const [i, run] of started.entries()) {
    try {
      const observation = observations[i]!;
      if (observation.state !== "running") unsure.add(run.runId);
      if (isSignalDue(run)) {
        await observer.apply(run, observation, markersOf);
        continue;
      }
      const changes = observer.changesOf(run, observation, markersOf);
      if (changes !== undefined) decided.push({ run, changes });
    } catch (error) {
      failures.push(error);
    }
  }
  return decided;
}

/** Writes once to the disk, and not at all when there is nothing to write. Returns the runs as they are shown then. */
function writeAll(
  decided: readonly Decided[],
  { observer, failures }: { observer: Observer; failures: unknown[] },
): Map<string, Run> {
  const shown = new Map<string, Run>();
  if (decided.length === 0) {
    observer.nothingToWrite();
    return shown;
  }
  const writeEach = (): void => {
    for (const { run, changes } of decided) {
      try {
        shown.set(run.runId, observer.write(run, changes));
      } catch (error) {
        if (isUnwritable(error)) throw error;
        failures.push(error);
      }
    }
  };
  // On a full disk one by one: for some of them its reserve suffices.
  if (observer.inOneWrite(writeEach) !== undefined) writeEach();
  for (const run of shown.values()) observer.release(run);
  return shown;
}
