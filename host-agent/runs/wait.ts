import type { Executor } from "../executor/executor.ts";
import { emptyPage, readPage } from "../logs/log-file.ts";
import type { LogQuery, WaitQuery } from "../protocol/agent.ts";
import type { RunRecord, Source } from "../protocol/run.ts";
import type { Run } from "../store/run.ts";
import type { RunStore } from "../store/run-store.ts";
import { sleep } from "../system/sleep.ts";
import type { FindRun } from "./find.ts";
import type { HeldRequests } from "./held.ts";
import { publicRun } from "./record.ts";

export interface WaitDeps {
  store: RunStore;
  executor: Executor;
  find: FindRun;
  requests: HeldRequests;
}

/** How often a reader at the end of a log over its limit looks whether the run has ended. */
const CUT_LOG_INTERVAL_MS = 500;

/** The reads that may wait: of a record for the run's end, and of a log page for new bytes. Throw `run_not_found`. */
export function createWaits({ store, executor, find, requests }: WaitDeps) {
  async function getEnded(
    source: Source,
    runId: string,
    { waitSeconds, signal }: { waitSeconds: number; signal: AbortSignal },
  ): Promise<RunRecord> {
    const waitUntil = performance.now() + waitSeconds * 1000;
    for (;;) {
      using change = executor.watch(runId, [], signal);
      const run = await find(source, runId);
      const left = waitUntil - performance.now();
      if (run.endedAt !== undefined || left <= 0 || signal.aborted) return publicRun(run);
      await sleep(left, change.changed);
    }
  }

  async function readLog(source: Source, runId: string, query: LogQuery) {
    const { after, maxBytes, waitSeconds } = query;
    const signal = requests.orStopping(query.signal);
    const waitUntil = performance.now() + waitSeconds * 1000;
    for (;;) {
      const logPath = waitSeconds > 0 ? store.get(runId)?.logPath : undefined;
      using change = logPath === undefined ? undefined : executor.watch(runId, [logPath], signal);
      const run = await find(source, runId);
      const growing = run.endedAt === undefined;
      if (neverHadLog(run)) return emptyPage(after);
      const page = await readPage(run.logPath, { after, maxBytes, growing, limit: run.logLimit });
      const left = waitUntil - performance.now();
      if (page.bytes.length > 0 || !growing || left <= 0 || signal.aborted) return page;
      // After its limit the file changes all the time, and the log never.
      await (page.isCut || !change ? sleep(CUT_LOG_INTERVAL_MS) : sleep(left, change.changed));
    }
  }

  return {
    /** The run's record now; with `waitSeconds` as soon as the run has ended, or after that time. */
    async get(source: Source, runId: string, { waitSeconds = 0, signal, keyName }: WaitQuery = {}) {
      if (waitSeconds === 0) return publicRun(await find(source, runId));
      return requests.hold(waitSeconds, keyName, () =>
        getEnded(source, runId, { waitSeconds, signal: requests.orStopping(signal) }),
      );
    },
    /** A page of the run's log; with `waitSeconds` as soon as it has bytes, or the run has ended, or after that time. */
    readLog: async (source: Source, runId: string, query: LogQuery) =>
      requests.hold(query.waitSeconds, query.keyName, () => readLog(source, runId, query)),
  };
}

/** Nothing was started, so no log was created: that is different from a log that was removed. */
function neverHadLog({ status, process, logFile }: Run): boolean {
  return status === "failed" && process === undefined && logFile === undefined;
}
