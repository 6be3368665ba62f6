import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { expect, onTestFinished, test, vi } from "vitest";

import { MIGRATIONS } from "../../../host-agent/store/migrations.ts";
import type { RunChanges } from "../../../host-agent/store/run.ts";
import { openRunStore } from "../../../host-agent/store/run-store.ts";
import { newRun } from "../../support/runs.ts";

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

test("a database of the first version is migrated with all its runs", async () => {
  const path = await temporaryPath();
  firstVersion(path);

  const store = openRunStore(path);
  onTestFinished(() => store.close());

  const { runs } = store.list({ source: "pipeline", limit: 10 });
  expect(runs.map(({ runId, label, status }) => [runId, label, status])).toEqual([
    ["run_000000000002", undefined, "running"],
    ["run_000000000001", undefined, "completed"],
  ]);
  expect(store.findByToken("t2")?.runId).toBe("run_000000000002");
  expect(store.list({ source: "pipeline", status: "running", limit: 10 }).runs).toHaveLength(1);
  expect(store.list({ source: "pipeline", label: "x", limit: 10 }).runs).toEqual([]);
  expect(
    store.callbacks.due({ now: Number.MAX_SAFE_INTEGER, latest: Number.MAX_SAFE_INTEGER, limit: 10 }),
  ).toEqual([]);
});

test("a failed launch ends no earlier than it started, also when the clock was set back", async () => {
  const path = await temporaryPath();
  firstVersion(path);
  const store = openRunStore(path);
  onTestFinished(() => store.close());

  const failed = store.failLaunch("run_000000000002", { reason: "r", endedAt: 1 });
  expect(failed).toMatchObject({ status: "failed", startedAt: 3, endedAt: 3 });
});

test("a migrated database opens again without changes", async () => {
  const path = await temporaryPath();
  firstVersion(path);
  openRunStore(path).close();

  openRunStore(path).close();

  using db = new DatabaseSync(path);
  expect(db.prepare("PRAGMA user_version").get()).toEqual({ user_version: MIGRATIONS.length });
});

test("a store that is closed has left all it wrote in one file", async () => {
  const path = await temporaryPath();
  const store = openRunStore(path);
  expect(existsSync(`${path}-wal`)).toBe(true);
  store.close();
  expect(existsSync(`${path}-wal`)).toBe(false);
});

test("a database of a later version is refused and not changed", async () => {
  const path = await temporaryPath();
  firstVersion(path);
  const later = MIGRATIONS.length + 1;
  using db = new DatabaseSync(path);
  db.exec(`PRAGMA user_version = ${later}`);

  expect(() => openRunStore(path)).toThrow(`schema version ${later}`);

  expect(db.prepare("PRAGMA user_version").get()).toEqual({ user_version: later });
  expect(db.prepare("SELECT * FROM runs").all()[0]).not.toHaveProperty("label");
});

test("a failed migration step leaves the database unchanged", async () => {
  const path = await temporaryPath();
  firstVersion(path);
  using db = new DatabaseSync(path);
  // In the way of the second step.
  db.exec("CREATE TABLE callbacks (x)");

  expect(() => openRunStore(path)).toThrow(/callbacks/);

  expect(db.prepare("PRAGMA user_version").get()).toEqual({ user_version: 1 });
  expect(db.prepare("SELECT * FROM runs").all()[0]).not.toHaveProperty("label");
});

/** A store with one run that is alive, at two agents at a time. */
async function twoAgents() {
  const path = await temporaryPath();
  const [one, two] = [openRunStore(path), openRunStore(path)];
  for (const store of [one, two]) onTestFinished(() => store.close());
  const { run } = one.insertOrFind(
    newRun(),
    () => true,
    () => {},
  );
  return { one, two, run, path };
}

const STOP = {
  cause: "kill",
  signal: "SIGTERM",
  keyName: "k",
  sent: false,
  deadline: { at: 9, uptime: 3 },
  escalated: false,
} as const;

test("a change that another agent has overtaken writes nothing, for each part of a run that can change", async () => {
  const changes: RunChanges[] = [
    { status: "running" },
    { process: { pid: 7, startTime: "1", bootId: "b" } },
    { stop: STOP },
    { stop: { ...STOP, cause: "timeout" } },
    { stop: { ...STOP, signal: "SIGINT" } },
    { stop: { ...STOP, sent: true } },
    { stop: { ...STOP, deadline: undefined } },
    { stop: { ...STOP, escalated: true } },
    { status: "failed", endedAt: 5 },
  ];
  for (const change of changes) {
    // oxlint-disable-next-line no-await-in-loop -- a database each
    const { one, two, run } = await twoAgents();
    const known = "stop" in change && change.stop !== STOP ? one.change(run, { stop: STOP })! : run;
    const changed = two.change(known, change);
    expect(changed, JSON.stringify(change)).toMatchObject(change);
    expect(one.change(known, { statusReason: "too late" }), JSON.stringify(change)).toBeUndefined();
    expect(two.get(run.runId)).toEqual(changed);
  }
});

test("a change of a run that is as it was known is written and returned", async () => {
  const { one, two, run } = await twoAgents();
  const changed = one.change(run, { stop: STOP, statusReason: "r" });
  expect(changed).toEqual({ ...run, stop: STOP, statusReason: "r" });
  expect(two.get(run.runId)).toEqual(changed);
  expect(one.change(changed!, { stop: undefined })).toEqual({ ...run, statusReason: "r" });
});

test("everything that a launch records is read back as it was", async () => {
  const { one } = await twoAgents();
  const launch = newRun({
    source: "pipeline",
    spec: { recipe_id: "nightly", args: "a 'b'", params: { n: 1 } },
    specSha256: "s",
    label: "l",
    timeoutSeconds: 3,
    logLimit: 4,
  });
  const { run } = one.insertOrFind(
    launch,
    () => true,
    () => {},
  );
  const { callbackUrl: _not, ...recorded } = launch;
  expect(run).toMatchObject(recorded);
  expect(run).toMatchObject({ status: "launching", stop: undefined, process: undefined, endedAt: undefined });
});

test("runs of a recipe are counted while they may be alive, also those that an earlier version recorded", async () => {
  const { one, path } = await twoAgents();
  const [first] = ["nightly", "nightly", "weekly"].map((recipe_id) => {
    const launch = newRun({ source: "pipeline", spec: { recipe_id, args: "" } });
    return one.insertOrFind(
      launch,
      () => true,
      () => {},
    ).run;
  });
  // A script whose spec happens to have the field is not a run of the recipe.
  one.insertOrFind(
    newRun({ spec: { recipe_id: "nightly", args: "" } }),
    () => true,
    () => {},
  );
  expect(["nightly", "weekly", "none"].map(one.countAliveOfRecipe)).toEqual([2, 1, 0]);
  one.change(first!, { status: "failed", endedAt: 5 });
  expect(one.countAliveOfRecipe("nightly")).toBe(1);

  using db = new DatabaseSync(path);
  const plan = db
    .prepare("EXPLAIN QUERY PLAN SELECT count(*) FROM runs WHERE ended_at IS NULL AND recipe_id = 'x'")
    .all();
  expect(JSON.stringify(plan)).toContain("runs_alive_by_recipe (recipe_id=?)");
});

test("a row whose spec is not JSON does not stop the migration, and is left out of lists", async () => {
  const path = await temporaryPath();
  firstVersion(path);
  using db = new DatabaseSync(path);
  db.exec("UPDATE runs SET spec = '{torn' WHERE run_id = 'run_000000000001'");
  const store = openRunStore(path);
  onTestFinished(() => store.close());
  expect(store.list({ source: "pipeline", limit: 10 }).runs.map(({ runId }) => runId)).toEqual([
    "run_000000000002",
  ]);
  expect(store.alive()).toHaveLength(1);
});

test("readers are not delayed by a transaction of another agent that holds the write lock", async () => {
  const { one, two, run } = await twoAgents();
  one.inOneWrite(() => {
    one.change(run, { stop: STOP });
    expect(two.get(run.runId)).toEqual(run);
    expect(two.list({ source: "script", limit: 5 }).runs).toEqual([run]);
    expect(two.list({ source: "script", status: "running", limit: 5 }).runs).toEqual([run]);
    expect(two.countAlive()).toBe(1);
  });
});

test("a run that has not ended is never forgotten: it is in no list of old runs, and removing it does nothing", async () => {
  const { one, two, run } = await twoAgents();
  const alive = one.change(run, { status: "running", stop: STOP })!;
  expect(one.endedBefore(Number.MAX_SAFE_INTEGER, 10)).toEqual([]);
  expect(one.limitedEndedSince(0)).toEqual([]);
  expect(one.removeAll([run.runId])).toEqual(new Set());
  expect(two.get(run.runId)).toEqual(alive);

  const ended = one.change(alive, { status: "killed", endedAt: 5 })!;
  expect(one.endedBefore(5, 10), "it ended at this time, not before it").toEqual([]);
  expect(one.endedBefore(6, 10).map(({ runId }) => runId)).toEqual([ended.runId]);
  expect(one.removeAll([run.runId])).toEqual(new Set([run.runId]));
  expect(one.removeAll([run.runId]), "by another agent meanwhile").toEqual(new Set());
  expect(two.get(run.runId)).toBeUndefined();
});

test("a run that another agent has removed is shown for a second longer, and one that it keeps after that", async () => {
  const { one, two, run } = await twoAgents();
  const ended = one.change(run, { status: "killed", endedAt: 5 })!;
  let now = 0;
  const clock = vi.spyOn(performance, "now").mockImplementation(() => now);
  onTestFinished(() => clock.mockRestore());
  expect(one.get(run.runId)).toEqual(ended);
  now = 1_000;
  expect(one.get(run.runId), "kept").toEqual(ended);
  two.removeAll([run.runId]);
  now = 1_999;
  expect(one.get(run.runId)).toEqual(ended);
  now = 2_000;
  expect(one.get(run.runId)).toBeUndefined();
});

test("a page of runs with long command lines ends before it is too large for an answer, and the next one goes on", async () => {
  const { one } = await twoAgents();
  const args = "'".repeat(32_768);
  const ids = Array.from({ length: 100 }, () => {
    const launch = newRun({
      spec: { path: "/a.sh", args },
      cmd: `/a.sh ${args.replaceAll("'", String.raw`'\''`)}`,
    });
    return one.insertOrFind(
      launch,
      () => true,
      () => {},
    ).run.runId;
  });
  const found: string[] = [];
  let before: number | undefined;
  do {
    const { runs, next } = one.list({ source: "script", limit: 500, before });
    expect(JSON.stringify(runs).length).toBeLessThan(4_194_304);
    expect(runs.length).toBeGreaterThan(0);
    found.push(...runs.map(({ runId }) => runId));
    before = next;
  } while (before !== undefined);
  expect(found).toEqual(expect.arrayContaining(ids));
  expect(found.filter((id) => ids.includes(id))).toEqual(ids.toReversed());
});

test("a page on which a row is damaged still leads to the next page", async () => {
  const { one, path } = await twoAgents();
  const ids = Array.from(
    { length: 4 },
    () =>
      one.insertOrFind(
        newRun(),
        () => true,
        () => {},
      ).run.runId,
  );
  using db = new DatabaseSync(path);
  db.prepare("UPDATE runs SET spec = '{torn' WHERE run_id = ?").run(ids[2]!);
  const { runs, next } = one.list({ source: "script", limit: 2 });
  expect(runs.map(({ runId }) => runId)).toEqual([ids[3]]);
  expect(one.list({ source: "script", limit: 1, before: next }).runs.map(({ runId }) => runId)).toEqual([
    ids[1],
  ]);
});
