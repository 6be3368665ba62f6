import type { Executor } from "../executor/executor.ts";
import { emptyPage, type LogPage, readPage } from "../logs/log-file.ts";
import type { LogQuery, WaitQuery } from "../protocol/agent.ts";
import type { Reach } from "../protocol/reach.ts";
import type { RunRecord, Source } from "../protocol/run.ts";
import type { Run } from "../store/run.ts";
import type { RunStore } from "../store/run-store.ts";
import { sleep } from "../system/sleep.ts";
import type { FindRun } from "./find.ts";
import type { HeldRequests } from "./held.ts";
import { publicRun } from "./record.ts";
import { createRunWatches } from "./watch-runs.ts";

export interface WaitDeps {
  store: RunStore;
  executor: Executor;
  find: FindRun;
  /** The run as it is now. */
  reconcile(run: Run): Promise<Run>;
  /** True while this agent is starting the run. */
  isLaunching(runId: string): boolean;
  requests: HeldRequests;
  /** The host's current boot. */
  bootId: string;
}

/** The reads that may wait: of a record for the run's end, and of a log page for new bytes. Throw `run_not_found`. */
export function createWaits({ store, executor, find, reconcile, isLaunching, requests, bootId }: WaitDeps) {
  const ends = createRunWatches(async (runId) => {
    if (isLaunching(runId)) return false;
    const run = store.get(runId);
    return run === undefined || (await reconcile(run)).endedAt !== undefined;
  });

  async function getEnded(
    source: Source,
    runId: string,
    { waitSeconds, signal }: { waitSeconds: number; signal: AbortSignal },
    reach: Reach | undefined,
  ): Promise<RunRecord> {
    const waitUntil = performance.now() + waitSeconds * 1000;
    using end = ends.watch(runId);
    using files = executor.watch(runId, []);
    using abort = abortOf(signal);
    for (;;) {
      const changed = Promise.race([end.next(), files.next(), abort.happened]);
      const run = await find(source, runId, reach);
      const left = waitUntil - performance.now();
      if (run.endedAt !== undefined || left <= 0 || signal.aborted) return publicRun(run);
      await sleep(left, changed);
    }
  }

  /** The page now, and whether it is the answer: else there is something to wait for. */
  async function look(
    source: Source,
    runId: string,
    { after, maxBytes }: LogQuery,
    reach: Reach | undefined,
  ) {
    const run = await find(source, runId, reach);
    if (neverHadLog(run)) return { page: emptyPage(after), isFinal: true };
    const growing = run.endedAt === undefined;
    // After a restart of the host the files may be a copy, with other inodes.
    const identity = run.launcher.bootId === bootId ? run.logFile : undefined;
    const page = await readPage(run.logPath, { after, maxBytes, growing, limit: run.logLimit, identity });
    return { page, isFinal: page.bytes.length > 0 || !growing };
  }

  async function waitForLog(
    source: Source,
    runId: string,
    query: LogQuery,
    reach: Reach | undefined,
  ): Promise<LogPage> {
    const signal = requests.orStopping(query.signal);
    const waitUntil = performance.now() + query.waitSeconds * 1000;
    const logPath = store.get(runId)?.logPath;
    using end = ends.watch(runId);
    using files = executor.watch(runId, logPath === undefined ? [] : [logPath]);
    using abort = abortOf(signal);
    for (;;) {
      const ended = end.next();
      const changed = files.next();
      const { page, isFinal } = await look(source, runId, query, reach);
      const left = waitUntil - performance.now();
      if (isFinal || left <= 0 || signal.aborted) return page;
      // After its limit the file changes all the time, and the log never.
      await sleep(left, Promise.race([ended, abort.happened, ...(page.isCut ? [] : [changed])]));
    }
  }

  async function readLog(
    source: Source,
    runId: string,
    query: LogQuery,
    reach: Reach | undefined,
  ): Promise<LogPage> {
    if (query.waitSeconds > 0) return waitForLog(source, runId, query, reach);
    return (await look(source, runId, query, reach)).page;
  }

  return {
    /** The run's record now; with `waitSeconds` as soon as the run has ended, or after that time. */
    async get(
      source: Source,
      runId: string,
      { waitSeconds = 0, signal, keyName }: WaitQuery = {},
      reach?: Reach,
    ) {
      if (waitSeconds === 0) return publicRun(await find(source, runId, reach));
      return requests.hold(waitSeconds, keyName, () =>
        getEnded(source, runId, { waitSeconds, signal: requests.orStopping(signal) }, reach),
      );
    },
    /** A page of the run's log; with `waitSeconds` as soon as it has bytes, or the run has ended, or after that time. */
    readLog: async (source: Source, runId: string, query: LogQuery, reach?: Reach) =>
      requests.hold(query.waitSeconds, query.keyName, () => readLog(source, runId, query, reach)),
  };
}

/** The abort of a signal as a promise, until it is disposed of. */
function abortOf(signal: AbortSignal): Disposable & { happened: Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>();
  const abort = (): void => resolve();
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) resolve();
  return { happened: promise, [Symbol.dispose]: () => signal.removeEventListener("abort", abort) };
}

/** Nothing was started, so no log was created: that is different from a log that was removed. */
function neverHadLog({ status, process, logFile }: Run): boolean {
  return status === "failed" && process === undefined && logFile === undefined;
}
