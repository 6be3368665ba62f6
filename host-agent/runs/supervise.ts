import type { Executor, ProcessIdentity } from "../executor/executor.ts";
import type { Run } from "../store/run.ts";
import type { RunStore } from "../store/run-store.ts";
import type { Clock } from "../system/clock.ts";
import { ageOf } from "./age.ts";
import { handleOf } from "./handle.ts";
import { cutLogOf } from "./end-of-run.ts";
import { lookInParts } from "./look-at-live.ts";
import { createSweep } from "./sweep.ts";
import type { Reconcile } from "./reconcile.ts";
import type { CarryOut } from "./stop.ts";
import { createSlices } from "../system/slices.ts";

/** What supervision uses, and the limits that it keeps. */
export interface SuperviseDeps {
  store: RunStore;
  executor: Executor;
  /** A run whose log is over the limit is stopped; else it goes on. */
  stopAtLogLimit?: boolean;
  now(): number;
  /** Looks at many runs work for so long before they let others work, in milliseconds. */
  sliceMs?: number;
  clock: Clock;
  /** This agent. */
  self: ProcessIdentity;
}

const DAY_MS = 86_400_000;
/** How often the logs of runs that ended within a day are looked at. */
const LEFT_LOGS_INTERVAL_MS = 60_000;
/** At most this many runs over their time are stopped in one round; the others in the next. */
const OVER_TIME_PER_ROUND = 100;

/**
 * A round of supervision, to be called every second: notices runs that have
 * ended, ends those that are over their time or grace, and keeps logs
 * within their limits. What it costs depends on what has happened, and not on how many runs are alive: it looks at runs that
 * were reported, that have a stop or are being launched, that are over their time, and at the sweep's share of all. A failure
 * for one run does not affect the others; at the end all failures are thrown as one error.
 */
export function createSupervision(
  deps: SuperviseDeps,
  { reconcile, reconcileAll, writeError }: Reconcile,
  carryOut: CarryOut,
) {
  const { store, executor, now, clock, self } = deps;
  let leftLogsCutAt = 0;
  const sweep = createSweep(store, executor.ends);
  /** Runs that may have ended, by their ids. */
  const reported = new Set<string>();
  /** Runs to be looked at in each round: nothing reports what will become of them. */
  const watched = new Set<string>();
  executor.ends.onEnd((runId) => void reported.add(runId));

  async function superviseOnce(): Promise<void> {
    // Of these there is nothing more to be reported, or they are followed already.
    const hasReport = new Set(reported);
    const due = dueRuns();
    for (const { runId } of due) if (!hasReport.has(runId)) executor.ends.follow(runId);
    const { runs, failures, unsure } = await lookInParts(due, reconcileAll, deps.sliceMs).catch(
      (error: unknown) => {
        // What was reported is not reported again.
        for (const { runId } of due) reported.add(runId);
        throw error;
      },
    );
    const pause = createSlices(deps.sliceMs);
    for (const run of runs) {
      const isOver = run.endedAt !== undefined;
      if (isOver) executor.ends.unfollow(run.runId);
      if (isOver || !unsure.has(run.runId)) watched.delete(run.runId);
      else watched.add(run.runId);
      if (isOver || run.status === "launching") continue;
      await enforceLimits(run).catch((error: unknown) => failures.push(error));
      await pause();
    }
    for (const run of leftLogs()) collect(failures, () => void cutLogOf(run));
    if (writeError() !== undefined) failures.push(writeError());
    if (failures.length > 0) throw allOf(failures);
  }

  /** The runs that this round looks at, each once. */
  function dueRuns(): Run[] {
    const named = [...reported, ...watched];
    reported.clear();
    watched.clear();
    const due = [
      ...store.unsettled(),
      ...store.overTime(clock().uptime, OVER_TIME_PER_ROUND),
      ...sweep.next(),
      ...named.flatMap((runId) => store.get(runId) ?? []),
    ];
    return [...new Map(due.map((run) => [run.runId, run])).values()];
  }

  async function enforceLimits(run: Run): Promise<void> {
    const round = { type: "round", now: clock(), exceeded: exceededLimit(run) } as const;
    const { run: stopped, decision } = await carryOut(run, round);
    if (decision.do !== "force") return;
    await executor.kill(handleOf(stopped));
    await reconcile(stopped);
  }

  /** The limit that the run exceeds, if it is to end for that. Cuts its log. */
  function exceededLimit(run: Run): "timeout" | "log_limit" | undefined {
    const isLogFull = cutLogOf(run);
    // The run may go on writing.
    if (isLogFull) watched.add(run.runId);
    const { timeoutSeconds } = run;
    const age = ageOf(run, { now: clock(), bootId: self.bootId });
    if (timeoutSeconds !== undefined && age > timeoutSeconds * 1000) return "timeout";
    return isLogFull && deps.stopAtLogLimit ? "log_limit" : undefined;
  }

  /** A run that has ended may have left a child that still writes: from time to time, those whose log has a limit. */
  function leftLogs(): Run[] {
    if (Math.abs(now() - leftLogsCutAt) < LEFT_LOGS_INTERVAL_MS) return [];
    leftLogsCutAt = now();
    return store.limitedEndedSince(now() - DAY_MS);
  }

  return superviseOnce;
}

function collect(failures: unknown[], work: () => void): void {
  try {
    work();
  } catch (error) {
    failures.push(error);
  }
}

/** As one error, which names a few. */
export function allOf(failures: readonly unknown[]): unknown {
  if (failures.length === 1) return failures[0];
  const some = failures.slice(0, 3).map(String).join("; ");
  return new AggregateError(failures, `${failures.length} things failed, among them: ${some}`);
}
