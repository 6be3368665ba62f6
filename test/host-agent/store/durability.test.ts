import { join } from "node:path";
import { DatabaseSync, StatementSync } from "node:sqlite";

import { expect, onTestFinished, test, vi } from "vitest";

import { openRunStore } from "../../../host-agent/store/run-store.ts";
import { newRun } from "../../support/runs.ts";
import { tempDir } from "../../support/temp-dir.ts";

/** What `PRAGMA synchronous` returns (sqlite.org/pragma.html#pragma_synchronous). */
const FULL = 2;
const NORMAL = 1;
/** What may be lost with the power: a process is lost with it (RunStore.markRunning), and retention forgets and measures again. */
const MAY_BE_LOST = /SET status = 'running'|SET log_bytes|DELETE FROM runs/;
/** Writes of a transaction share its end, which is at either level. */
const ENDS = "COMMIT";
const WRITES = /^\s*(?:INSERT|UPDATE|DELETE|REPLACE)/i;

/** Watches every statement that is written with, and how much of it would survive a loss of power. */
function watchWrites() {
  const databaseOf = new WeakMap<StatementSync, DatabaseSync>();
  const prepared = new Set<string>();
  const written = new Map<string, Set<number>>();
  const { prepare, exec } = DatabaseSync.prototype;
  const { run } = StatementSync.prototype;
  const note = (sql: string, db: DatabaseSync): void => {
    const { synchronous } = prepare.call(db, "PRAGMA synchronous").get() as { synchronous: number };
    written.set(sql, (written.get(sql) ?? new Set()).add(synchronous));
  };
  vi.spyOn(DatabaseSync.prototype, "prepare").mockImplementation(function (this: DatabaseSync, sql) {
    const statement = prepare.call(this, sql);
    databaseOf.set(statement, this);
    if (WRITES.test(sql)) prepared.add(sql);
    return statement;
  });
  vi.spyOn(DatabaseSync.prototype, "exec").mockImplementation(function (this: DatabaseSync, sql) {
    if (sql === "COMMIT") note(sql, this);
    return exec.call(this, sql);
  });
  vi.spyOn(StatementSync.prototype, "run").mockImplementation(function (this: StatementSync, ...parameters) {
    if (WRITES.test(this.sourceSQL)) note(this.sourceSQL, databaseOf.get(this)!);
    return run.apply(this, parameters);
  });
  onTestFinished(() => void vi.restoreAllMocks());
  return { prepared, written };
}

test("every write of the store is on the disk before its call returns, but for those that may be lost with the power", () => {
  const { prepared, written } = watchWrites();
  const path = join(tempDir(), "runs.db");
  const store = openRunStore(path);
  onTestFinished(() => store.close());
  const launch = (given = {}) =>
    store.insertOrFind(
      newRun(given),
      () => true,
      () => {},
    ).run;

  const run = launch({ callbackUrl: "https://client.example/" });
  const process = { pid: 7, startTime: "1", bootId: "b" };
  const running = store.markRunning(run.runId, { process, logFile: "1:2", reason: "r" });
  store.change(running, { status: "completed", endedAt: 5 });
  const [due] = store.callbacks.due({
    now: Number.MAX_SAFE_INTEGER,
    latest: Number.MAX_SAFE_INTEGER,
    limit: 1,
  });
  store.callbacks.take(due!, { nextAttemptAt: 1, giveUpAt: 2 });
  store.callbacks.noteResult(run.runId, "500");
  store.callbacks.end(run.runId, "delivered", "200");
  store.setLogSizes([{ runId: run.runId, bytes: 1 }]);
  store.removeAll([run.runId]);
  const failed = launch({ callbackUrl: "https://client.example/", startedAt: 1 });
  store.failLaunch(failed.runId, { reason: "r", endedAt: 5 });
  // Its token is an hour old: another launch may have it.
  launch({ launchToken: "old", startedAt: 1 });
  store.insertOrFind(
    newRun({ launchToken: "old" }),
    () => false,
    () => {},
  );
  store.setAuditHead({ seq: 1, hash: "h" });

  expect(
    [...prepared].filter((sql) => !written.has(sql)),
    "writes that this test does not make",
  ).toEqual([]);
  for (const [sql, levels] of written) {
    if (sql === ENDS) continue;
    expect([...levels], sql).toEqual([MAY_BE_LOST.test(sql) ? NORMAL : FULL]);
  }
  expect(written.size).toBeGreaterThan(10);
  using other = new DatabaseSync(path);
  expect(other.prepare("PRAGMA journal_mode").get()).toEqual({ journal_mode: "wal" });
});

test("the write that may be lost leaves the next one on the disk, also when it has failed", () => {
  const { written } = watchWrites();
  const path = join(tempDir(), "runs.db");
  const store = openRunStore(path);
  onTestFinished(() => store.close());
  const { run } = store.insertOrFind(
    newRun(),
    () => true,
    () => {},
  );
  const bad = {
    process: { pid: {} as number, startTime: "1", bootId: "b" },
    logFile: undefined,
    reason: "r",
  };
  expect(() => store.markRunning(run.runId, bad)).toThrow();
  written.clear();
  store.change(run, { statusReason: "next" });
  expect([...written.values()].map((levels) => [...levels])).toEqual([[FULL]]);
});
