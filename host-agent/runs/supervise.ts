import { forget } from "./prune.ts";
import type { RunStore, StoredRun } from "../store/run-store.ts";
import { cutLogOf, type Settle } from "./reconcile.ts";
import { deliver, killTree, LIMIT_GRACE_MS, stopRun } from "./stop.ts";

/** What supervision goes by, and what it is to keep to. */
export interface SupervisionDeps {
  store: RunStore;
  stateDir: string;
  /** A run whose log is over the limit is stopped; else it goes on. */
  stopAtLogLimit?: boolean;
  /** Ended runs are forgotten after so many days. */
  keepRunsDays?: number | undefined;
  /** Told of each run that has been forgotten. */
  onPruned?(run: StoredRun): void;
  now(): number;
}

const DAY_MS = 86_400_000;
/** The logs of runs that ended within a day are looked at so often. */
const LEFT_LOGS_INTERVAL_MS = 60_000;
/** So many runs are forgotten at one go. */
const FORGET_AT_ONCE = 50;

/**
 * What looks after the runs, called every second: notices those that have
 * ended, ends those that are over their time or grace, and keeps logs and runs
 * within their limits. One run that cannot be looked after keeps no other from
 * it; at the end it throws what failed.
 */
export function createSupervision(deps: SupervisionDeps, { settle, settleAll }: Settle) {
  const { store, stateDir, now } = deps;
  let leftLogsCutAt = 0;

  async function supervise(): Promise<void> {
    const { runs, failures } = await settleAll(store.alive());
    for (const run of runs) {
      if (run.ended_at !== null || run.status === "launching") continue;
      await lookAfter(run).catch((error: unknown) => failures.push(error));
    }
    for (const run of leftLogs()) collect(failures, () => void cutLogOf(run));
    for (const run of outlived()) {
      collect(failures, () => {
        if (forget(run, store, stateDir)) deps.onPruned?.(run);
      });
    }
    if (failures.length > 0) throw allOf(failures);
  }

  async function lookAfter(run: StoredRun): Promise<void> {
    const limit = brokenLimit(run);
    const graceEndsAt = now() + LIMIT_GRACE_MS;
    if (run.stop_cause === null && limit !== undefined) {
      stopRun(store, run, { cause: limit, signal: "SIGTERM", keyName: null, deadline: graceEndsAt });
    } else if (run.stop_cause !== null && run.stop_sent === 0) {
      deliver(store, run);
    } else if (limit !== undefined && (run.stop_deadline ?? Number.POSITIVE_INFINITY) > graceEndsAt) {
      // It shrugged off a kill, or has a longer grace than its time: it has had its signal, and ends with the limit's.
      store.update(run.run_id, { stop_deadline: graceEndsAt });
    } else if (run.stop_deadline !== null && now() >= run.stop_deadline) {
      store.update(run.run_id, { stop_escalated: run.stop_signal === "SIGKILL" ? 0 : 1 });
      await killTree(run);
      await settle(store.get(run.run_id) ?? run);
    }
  }

  /** The limit that the run is over, if it is to end for that. Cuts its log. */
  function brokenLimit(run: StoredRun): "timeout" | "log_limit" | undefined {
    const isLogFull = cutLogOf(run);
    const { timeout_seconds, started_at } = run;
    if (timeout_seconds !== null && now() > started_at + timeout_seconds * 1000) return "timeout";
    return isLogFull && deps.stopAtLogLimit ? "log_limit" : undefined;
  }

  /** A run that has ended may have left a child that writes on: from time to time, those whose log has a limit. */
  function leftLogs(): StoredRun[] {
    if (Math.abs(now() - leftLogsCutAt) < LEFT_LOGS_INTERVAL_MS) return [];
    leftLogsCutAt = now();
    return store.limitedEndedSince(now() - DAY_MS);
  }

  /** Runs whose days are over; so many at one go that nobody waits for them. */
  function outlived(): StoredRun[] {
    if (deps.keepRunsDays === undefined) return [];
    return store.endedBefore(now() - deps.keepRunsDays * DAY_MS, FORGET_AT_ONCE);
  }

  return supervise;
}

/** What cannot be done for one run keeps no other from its turn. */
function collect(failures: unknown[], work: () => void): void {
  try {
    work();
  } catch (error) {
    failures.push(error);
  }
}

/** As one error, which names a few. */
function allOf(failures: readonly unknown[]): unknown {
  if (failures.length === 1) return failures[0];
  const some = failures.slice(0, 3).map(String).join("; ");
  return new AggregateError(failures, `${failures.length} things failed, among them: ${some}`);
}
