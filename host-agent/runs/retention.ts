import type { ProcessIdentity } from "../executor/executor.ts";
import { logSize } from "../logs/log-limit.ts";
import { IDEMPOTENCY_TTL_SECONDS } from "../protocol/launch.ts";
import type { EndedRun } from "../store/retention-store.ts";
import type { Clock } from "../system/clock.ts";
import { prune, type PruneDeps } from "./prune.ts";
import { allOf } from "./supervise.ts";

/** A run with the present size of its log. */
type Measured = EndedRun & { logBytes: number };

/** What retention uses, and for how long and for how many bytes runs are kept. */
export interface RetentionDeps extends PruneDeps {
  /** Ended runs whose recipe says nothing else are forgotten after this many days; undefined for never. */
  keepRunsDays?: number | undefined;
  /** The logs of ended runs may be this many bytes together; undefined for no limit. */
  maxLogsBytes?: number | undefined;
  now(): number;
  clock: Clock;
  /** This agent. */
  self: ProcessIdentity;
}

const DAY_MS = 86_400_000;
/** A retry of a launch finds its run for so long: until then no cap on logs forgets it. */
const RETRY_MS = IDEMPOTENCY_TTL_SECONDS * 1000;
/** A wall clock that moved further than this against the time since the boot was set, and not corrected. */
const MOST_CLOCK_CORRECTION_MS = DAY_MS;
/** This number of runs shares a write: few enough that it blocks other work for a few milliseconds only. */
const BATCH = 50;
/** This number of batches is a round: between two rounds the host gets a pause. */
const BATCHES_PER_ROUND = 50;

/**
 * A round of retention, to be called every second: forgets ended runs that are over their days, then the oldest ended ones while
 * the logs of all ended runs are over their limit. Never a live run, and none while the clock is set ahead. Ends early
 * when `signal` aborts. A failure for one run does not affect the others; at the end all failures are thrown as one error.
 */
export function createRetention(deps: RetentionDeps) {
  const { store, now, clock, self, keepRunsDays, maxLogsBytes } = deps;

  async function forgetDue(signal?: AbortSignal): Promise<void> {
    const failures = new Map<string, unknown>();
    const batches = Array.from({ length: BATCHES_PER_ROUND });
    for (const _ of batches) {
      if (signal?.aborted) break;
      if (!(await forgetBatch(failures))) break;
    }
    if (failures.size > 0) throw allOf([...failures.values()]);
  }

  /** False when there is nothing more to do. Runs in `failures` are left alone. */
  async function forgetBatch(failures: Map<string, unknown>): Promise<boolean> {
    const measured = maxLogsBytes === undefined ? [] : await measure(store.unmeasured(BATCH));
    const most = BATCH + failures.size;
    const over = [...expired(most), ...(measured.length > 0 ? [] : await overLimit(most))];
    const runs = over.filter(({ runId }) => !failures.has(runId)).slice(0, BATCH);
    if (runs.length > 0 && isClockSetAhead()) return false;
    const pruned = await prune(runs, deps);
    for (const { run, error } of pruned.failures) failures.set(run.runId, error);
    return runs.length > 0 || measured.length > 0;
  }

  function expired(most: number): EndedRun[] {
    const bySetting =
      keepRunsDays === undefined ? [] : store.endedBefore(now() - keepRunsDays * DAY_MS, most);
    return [...bySetting, ...store.overOwnDays(now(), most)];
  }

  /** The oldest ended runs whose logs are too much, by their present sizes: a log may have been removed or packed since it was measured. */
  async function overLimit(most: number): Promise<EndedRun[]> {
    if (excess() <= 0) return [];
    const { uptime } = clock();
    const time = { time: now() - RETRY_MS, bootId: self.bootId, uptime: uptime - RETRY_MS };
    const oldest = await measure(store.endedWithLog(time, most));
    let left = excess();
    return oldest.filter(({ logBytes }) => {
      const isTooMuch = left > 0 && logBytes > 0;
      left -= logBytes;
      return isTooMuch;
    });
  }

  /** The runs with the present sizes of their logs, which are recorded. */
  async function measure(runs: readonly EndedRun[]): Promise<Measured[]> {
    const measured = await Promise.all(
      runs.map(async (run) => ({
        ...run,
        logBytes: run.logFile === undefined ? 0 : await logSize(run.logPath, run.logFile),
      })),
    );
    const isNew = ({ logBytes }: Measured, i: number) => logBytes !== runs[i]!.logBytes;
    store.setLogSizes(measured.filter(isNew).map(({ runId, logBytes }) => ({ runId, bytes: logBytes })));
    return measured;
  }

  function excess(): number {
    return maxLogsBytes === undefined ? 0 : store.endedLogBytes() - maxLogsBytes;
  }

  /** By the newest runs of this boot: nothing is deleted by a clock that was set ahead since one of them started. */
  function isClockSetAhead(): boolean {
    const bootedAt = store.earliestBoot(self.bootId);
    const { at, uptime } = clock();
    return bootedAt !== undefined && at - uptime - bootedAt > MOST_CLOCK_CORRECTION_MS;
  }

  return forgetDue;
}
