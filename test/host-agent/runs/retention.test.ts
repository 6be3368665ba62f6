import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { expect, onTestFinished, test } from "vitest";

import { localExecutor } from "../../../host-agent/executor/local.ts";
import { logIdentity } from "../../../host-agent/logs/log-limit.ts";
import { createRetention, type RetentionDeps } from "../../../host-agent/runs/retention.ts";
import type { NewRun } from "../../../host-agent/store/run.ts";
import { openRunStore } from "../../../host-agent/store/run-store.ts";
import { newRun } from "../../support/runs.ts";
import { tempDir } from "../../support/temp-dir.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const NOW = 1_000 * DAY_MS;
const MEBIBYTE = 1_048_576;

/** Runs that have ended, with their folders and logs, in a real store. */
function world(limits: Pick<RetentionDeps, "keepRunsDays" | "maxLogsBytes">) {
  const stateDir = tempDir();
  const path = join(stateDir, "runs.db");
  const store = openRunStore(path);
  onTestFinished(() => store.close());
  mkdirSync(join(stateDir, "runs"));
  const deps: RetentionDeps = {
    store,
    executor: localExecutor({ stateDir, env: {}, runUser: undefined }),
    now: () => NOW,
    clock: () => ({ at: NOW, uptime: 100 * DAY_MS }),
    self: { pid: 1, startTime: "1", bootId: "boot" },
    ...limits,
  };
  function run(given: Partial<NewRun> & { age: number; bytes?: number; isLive?: boolean }): string {
    const { age, bytes = 1, isLive, ...launch } = given;
    const { run: started } = store.insertOrFind(
      newRun({ startedAt: NOW - age, ...launch }),
      () => true,
      () => {},
    );
    const { runId } = started;
    const logPath = join(stateDir, `${runId}.log`);
    writeFileSync(logPath, Buffer.alloc(bytes));
    mkdirSync(join(stateDir, "runs", runId));
    writeFileSync(join(stateDir, "runs", runId, "exit"), "0\n");
    const end = isLive ? {} : ({ status: "completed", endedAt: NOW - age } as const);
    const logFile = logIdentity(logPath);
    using db = new DatabaseSync(path);
    db.prepare("UPDATE runs SET log_path = ? WHERE run_id = ?").run(logPath, runId);
    store.change(store.get(runId)!, { logFile, ...end });
    return runId;
  }
  const isKept = (runId: string): boolean => {
    const isThere = store.get(runId) !== undefined;
    expect(existsSync(join(stateDir, `${runId}.log`)), runId).toBe(isThere);
    expect(existsSync(join(stateDir, "runs", runId)), runId).toBe(isThere);
    return isThere;
  };
  return { path, stateDir, store, deps, run, isKept, forgetDue: createRetention(deps) };
}

test("a recipe's own days count instead of the setting's, longer or shorter, and 0 is forever", async () => {
  const { run, isKept, forgetDue } = world({ keepRunsDays: 30 });
  const age = 40 * DAY_MS;
  const [bySetting, shorter, longer, forEver] = [
    run({ age }),
    run({ age, keepDays: 1 }),
    run({ age, keepDays: 60 }),
    run({ age, keepDays: 0 }),
  ];
  const [young, youngOver, live] = [
    run({ age: 2 * DAY_MS }),
    run({ age: 2 * DAY_MS, keepDays: 1 }),
    run({ age, isLive: true, keepDays: 1 }),
  ];
  await forgetDue();
  expect([bySetting, shorter, youngOver].map(isKept)).toEqual([false, false, false]);
  expect([longer, forEver, young, live].map(isKept)).toEqual([true, true, true, true]);
});

test("a recipe's own days count also where the setting keeps all runs", async () => {
  const { run, isKept, forgetDue } = world({});
  const [kept, over] = [run({ age: 400 * DAY_MS }), run({ age: 2 * DAY_MS, keepDays: 1 })];
  await forgetDue();
  expect([kept, over].map(isKept)).toEqual([true, false]);
});

test("many runs are forgotten with one write for fifty, and their files are removed while no write is under way", async () => {
  const { path, store, deps, run, isKept } = world({ keepRunsDays: 30 });
  const ids = Array.from({ length: 120 }, () => run({ age: 40 * DAY_MS }));
  using other = new DatabaseSync(path);
  const counts = { writes: 0, lockedFiles: 0, audited: 0 };
  await createRetention({
    ...deps,
    store: {
      ...store,
      removeAll(runIds) {
        counts.writes++;
        return store.removeAll(runIds);
      },
    },
    executor: {
      ...deps.executor,
      async forget(runId) {
        try {
          other.exec("BEGIN IMMEDIATE; ROLLBACK");
        } catch {
          counts.lockedFiles++;
        }
        return deps.executor.forget(runId);
      },
    },
    onPruned: () => void counts.audited++,
  })();
  expect(ids.some(isKept)).toBe(false);
  expect(counts).toEqual({ writes: 4, lockedFiles: 0, audited: 120 });
});

test("a run whose files cannot be removed is kept and reported, however many there are of them, and all others are forgotten", async () => {
  const { store, deps, run } = world({ keepRunsDays: 30 });
  const stuck = new Set(Array.from({ length: 60 }, () => run({ age: 50 * DAY_MS })));
  const others = Array.from({ length: 10 }, () => run({ age: 40 * DAY_MS }));
  const forgetDue = createRetention({
    ...deps,
    executor: {
      ...deps.executor,
      async forget(runId) {
        if (stuck.has(runId)) throw new Error("EIO");
        return deps.executor.forget(runId);
      },
    },
  });
  await expect(forgetDue()).rejects.toThrow("60 things failed, among them: Error: EIO");
  expect(others.map((id) => store.get(id))).toEqual(others.map(() => undefined));
  expect([...stuck].every((id) => store.get(id) !== undefined)).toBe(true);
});

test("over the cap on logs the oldest ended runs are forgotten first, whatever their days, and no more than needed", async () => {
  const { store, run, isKept, forgetDue } = world({ maxLogsBytes: 2 * MEBIBYTE });
  const [second, oldest, third, empty] = [
    run({ age: 4 * HOUR_MS, bytes: MEBIBYTE }),
    run({ age: 5 * HOUR_MS, bytes: MEBIBYTE, keepDays: 0 }),
    run({ age: 3 * HOUR_MS, bytes: MEBIBYTE }),
    run({ age: 90 * HOUR_MS, bytes: 0 }),
  ];
  const live = run({ age: 100 * HOUR_MS, bytes: 5 * MEBIBYTE, isLive: true });
  await forgetDue();
  expect([oldest, second, third, empty, live].map(isKept)).toEqual([false, true, true, true, true]);
  expect(store.endedLogBytes()).toBe(2 * MEBIBYTE);
});

test("the cap on logs forgets no run that a retry could ask for, and none whose callback is to be sent yet", async () => {
  const { run, isKept, forgetDue } = world({ maxLogsBytes: MEBIBYTE });
  const kept = [
    run({ age: HOUR_MS - 1_000, bytes: 2 * MEBIBYTE }),
    // By a clock that was set ahead since its launch it is older.
    run({
      age: 3 * HOUR_MS,
      bytes: 2 * MEBIBYTE,
      startedUptime: 100 * DAY_MS - 60_000,
      launcher: { pid: 1, startTime: "1", bootId: "boot" },
    }),
    run({ age: 3 * HOUR_MS, bytes: 2 * MEBIBYTE, callbackUrl: "https://client.example/" }),
  ];
  await forgetDue();
  expect(kept.map(isKept)).toEqual([true, true, true]);
});

test("a log that was removed on the host does not count for the cap, and its run is not forgotten for it", async () => {
  const { stateDir, store, run, forgetDue } = world({ maxLogsBytes: 2 * MEBIBYTE });
  const [removed, old] = [9, 8].map((hours) => run({ age: hours * HOUR_MS, bytes: MEBIBYTE }));
  await forgetDue();
  rmSync(join(stateDir, `${removed}.log`));
  const young = run({ age: 2 * HOUR_MS, bytes: MEBIBYTE });
  await forgetDue();
  expect([removed, old, young].map((id) => store.get(id!) !== undefined)).toEqual([true, true, true]);
  expect(store.endedLogBytes()).toBe(2 * MEBIBYTE);
});

test("below the cap a round looks at no log that was measured before", async () => {
  const { store, deps, run } = world({ maxLogsBytes: 9 * MEBIBYTE });
  const ids = Array.from({ length: 70 }, () => run({ age: 2 * HOUR_MS }));
  let measured = 0;
  const forgetDue = createRetention({
    ...deps,
    store: {
      ...store,
      setLogSizes(sizes) {
        measured += sizes.length;
        store.setLogSizes(sizes);
      },
      endedWithLog() {
        throw new Error("nothing is over the cap");
      },
    },
  });
  await forgetDue();
  expect(measured).toBe(ids.length);
  await forgetDue();
  expect(measured).toBe(ids.length);
});
