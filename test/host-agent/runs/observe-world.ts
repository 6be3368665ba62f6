import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { expect, onTestFinished } from "vitest";

import { logIdentity } from "../../../host-agent/logs/log-limit.ts";
import { createReconcile } from "../../../host-agent/runs/reconcile.ts";
import type { NewRun, Run, Stop } from "../../../host-agent/store/run.ts";
import { openRunStore, type RunStore } from "../../../host-agent/store/run-store.ts";
import { newRun } from "../../support/runs.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { scriptedExecutor } from "./scripted-executor.ts";

export const STARTED_AT = 1_000;
export const NOW = 9_000;
export const SELF = { pid: 10, startTime: "10", bootId: "b" };
export const ORPHANED =
  "Processes of the run are alive, but the wrapper that would keep its exit code was killed on the host.";
export const INTERRUPTED = "Launch interrupted: the host-agent stopped before the command was started.";
export const NEVER_STARTED =
  "The command was never started: its wrapper ended before, killed on the host or without room on the disk.";
export const STOP: Stop = {
  cause: "kill",
  signal: "SIGTERM",
  keyName: "acme",
  sent: true,
  deadline: undefined,
  escalated: false,
};

/** What SQLite throws when a database can grow no more. */
export function fullDisk(): unknown {
  using db = new DatabaseSync(":memory:");
  db.exec("PRAGMA max_page_count = 2; CREATE TABLE t (x)");
  try {
    db.exec("INSERT INTO t VALUES (zeroblob(100000))");
  } catch (error) {
    return error;
  }
  return expect.fail("there was space");
}

/** Runs in a real store, of which the executor sees what the test says. */
export function world() {
  const dir = tempDir();
  const store = openRunStore(":memory:");
  onTestFinished(() => store.close());
  const executor = scriptedExecutor(dir);
  let held = 0;
  const state = {
    alive: false,
    launching: false,
    markers: [/\bERROR\b/],
    onMarkers() {},
    onHold() {},
    reads: 0,
    onWrite(_runId: string) {},
    onManyWrites() {},
  };
  const observedStore: RunStore = {
    ...store,
    get(runId) {
      state.reads++;
      return store.get(runId);
    },
    change(run, changes) {
      state.onWrite(run.runId);
      return store.change(run, changes);
    },
    inOneWrite(work) {
      state.onManyWrites();
      return store.inOneWrite(work);
    },
  };
  const reconciling = createReconcile({
    store: observedStore,
    executor,
    signalLock: {
      async hold(work) {
        held++;
        state.onHold();
        // As one that another agent holds for a moment.
        await new Promise(setImmediate);
        return work();
      },
      close() {},
    },
    now: () => NOW,
    self: SELF,
    isAgentAlive: () => state.alive,
    isLaunching: () => state.launching,
    async markers() {
      state.onMarkers();
      return () => state.markers;
    },
  });
  function launch(given: Partial<NewRun> = {}): Run {
    const logPath = join(dir, `${String(store.countAlive())}.log`);
    return store.insertOrFind(
      newRun({ startedAt: STARTED_AT, logPath, ...given }),
      () => true,
      () => {},
    ).run;
  }
  return {
    ...reconciling,
    store,
    executor,
    state,
    launch,
    /** A run that runs, with a log that has this text. */
    start(given: Partial<NewRun> = {}, log = "hello\n"): Run {
      const run = launch(given);
      writeFileSync(run.logPath, log);
      const process = { pid: 7, startTime: "7", bootId: "b" };
      return store.markRunning(run.runId, { process, logFile: logIdentity(run.logPath), reason: "r" });
    },
    locks: () => held,
  };
}
