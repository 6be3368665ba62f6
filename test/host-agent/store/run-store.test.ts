import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { expect, onTestFinished, test } from "vitest";

import { MIGRATIONS } from "../../../host-agent/store/migrations.ts";
import { openRunStore } from "../../../host-agent/store/run-store.ts";

async function temporaryPath(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "hub-store-"));
  onTestFinished(() => rm(dir, { recursive: true }));
  return join(dir, "runs.db");
}

/** A database as the first version left it, with a run that has ended and one that is alive. */
function firstVersion(path: string): void {
  using db = new DatabaseSync(path);
  db.exec(`${MIGRATIONS[0]} PRAGMA user_version = 1;
    INSERT INTO runs (run_id, source, spec, cmd, log_path, key_name, status, status_reason, started_at, ended_at,
      launch_token, fingerprint, launcher)
    VALUES ('run_000000000001', 'pipeline', '{}', 'a', '/a.log', 'k', 'completed', 'r', 1, 2, 't1', 'f', '{}'),
      ('run_000000000002', 'pipeline', '{}', 'b', '/b.log', 'k', 'running', 'r', 3, NULL, 't2', 'f', '{}')`);
}

test("a database of the first version is taken up with all its runs", async () => {
  const path = await temporaryPath();
  firstVersion(path);

  const store = openRunStore(path);
  onTestFinished(() => store.close());

  const runs = store.list({ source: "pipeline", limit: 10 });
  expect(runs.map(({ run_id, label, status }) => [run_id, label, status])).toEqual([
    ["run_000000000002", null, "running"],
    ["run_000000000001", null, "completed"],
  ]);
  expect(store.findByToken("t2", 0)?.run_id).toBe("run_000000000002");
  expect(store.list({ source: "pipeline", status: "running", limit: 10 })).toHaveLength(1);
  expect(store.list({ source: "pipeline", label: "x", limit: 10 })).toEqual([]);
  expect(store.callbacks.due(Number.MAX_SAFE_INTEGER, 10)).toEqual([]);
});

test("a launch that failed has ended no sooner than it started, also by a clock that was set back", async () => {
  const path = await temporaryPath();
  firstVersion(path);
  const store = openRunStore(path);
  onTestFinished(() => store.close());

  const failed = store.failLaunch("run_000000000002", { status_reason: "r", ended_at: 1 });
  expect(failed).toMatchObject({ status: "failed", started_at: 3, ended_at: 3 });
});

test("a database is migrated once, and opens again as it is", async () => {
  const path = await temporaryPath();
  firstVersion(path);
  openRunStore(path).close();

  openRunStore(path).close();

  using db = new DatabaseSync(path);
  expect(db.prepare("PRAGMA user_version").get()).toEqual({ user_version: MIGRATIONS.length });
});

test("a database of a later version is refused and left as it is", async () => {
  const path = await temporaryPath();
  firstVersion(path);
  const later = MIGRATIONS.length + 1;
  using db = new DatabaseSync(path);
  db.exec(`PRAGMA user_version = ${later}`);

  expect(() => openRunStore(path)).toThrow(`schema version ${later}`);

  expect(db.prepare("PRAGMA user_version").get()).toEqual({ user_version: later });
  expect(db.prepare("SELECT * FROM runs").all()[0]).not.toHaveProperty("label");
});

test("a step that fails leaves the database as it was", async () => {
  const path = await temporaryPath();
  firstVersion(path);
  using db = new DatabaseSync(path);
  // In the way of the second step.
  db.exec("CREATE TABLE callbacks (x)");

  expect(() => openRunStore(path)).toThrow(/callbacks/);

  expect(db.prepare("PRAGMA user_version").get()).toEqual({ user_version: 1 });
  expect(db.prepare("SELECT * FROM runs").all()[0]).not.toHaveProperty("label");
});
