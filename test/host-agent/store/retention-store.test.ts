import { closeSync, openSync, readFileSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { expect, onTestFinished, test } from "vitest";

import { RETENTION_QUERIES } from "../../../host-agent/store/retention-store.ts";
import { openRunStore } from "../../../host-agent/store/run-store.ts";
import { newRun } from "../../support/runs.ts";
import { tempDir } from "../../support/temp-dir.ts";

/** Larger than what a start checks whole. */
const MANY = 90_000;

function emptyStore() {
  const path = join(tempDir(), "runs.db");
  const store = openRunStore(path);
  onTestFinished(() => store.close());
  return { path, store };
}

test.for(Object.entries(RETENTION_QUERIES))(
  "retention finds what it asks for (%s) by an index, without a scan or a sort",
  ([, sql]) => {
    const { path } = emptyStore();
    using db = new DatabaseSync(path);
    const names = [...sql.matchAll(/:(\w+)/g)].map(([, name]) => [name!, 1] as const);
    const plan = db.prepare(`EXPLAIN QUERY PLAN ${sql}`).all(Object.fromEntries(names));
    const details = plan.map(({ detail }) => String(detail));
    expect(details.some((detail) => detail.startsWith("SEARCH"))).toBe(true);
    expect(details.filter((detail) => /SCAN|TEMP B-TREE/.test(detail))).toEqual([]);
  },
);

test("the sum of the logs of ended runs follows each measurement and each run that is forgotten, by whichever version", () => {
  const { path, store } = emptyStore();
  const end = () => {
    const { run } = store.insertOrFind(
      newRun(),
      () => true,
      () => {},
    );
    return store.change(run, { status: "completed", endedAt: 5, logFile: "1:2" })!.runId;
  };
  const [one, two, three] = [end(), end(), end()];
  expect(store.unmeasured(10).map(({ runId }) => runId)).toEqual([one, two, three]);
  store.setLogSizes([
    { runId: one, bytes: 10 },
    { runId: two, bytes: 200 },
    { runId: three, bytes: 3_000 },
  ]);
  expect(store.unmeasured(10)).toEqual([]);
  expect(store.endedLogBytes()).toBe(3_210);
  store.setLogSizes([{ runId: one, bytes: 0 }]);
  expect(store.endedLogBytes()).toBe(3_200);
  store.removeAll([two]);
  expect(store.endedLogBytes()).toBe(3_000);
  using older = new DatabaseSync(path);
  older.prepare("DELETE FROM runs WHERE run_id = ?").run(three);
  expect(store.endedLogBytes()).toBe(0);
});

test("a start among very many runs neither reads the whole database nor maps it into memory", () => {
  const path = join(tempDir(), "runs.db");
  openRunStore(path).close();
  const db = new DatabaseSync(path);
  db.exec(`
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${MANY})
    INSERT INTO runs (run_id, source, spec, cmd, log_path, key_name, status, status_reason, started_at, ended_at,
      fingerprint, launcher)
    SELECT printf('run_%012x', i), 'script', '{"path":"/a.sh","args":""}', '/a.sh', '/a.log', 'k', 'completed', 'r', i, i,
      'f', '{}' FROM n;
    PRAGMA wal_checkpoint(TRUNCATE)`);
  // In the middle of the table: what a start would notice if it read that.
  const { root } = db
    .prepare("SELECT pageno AS root FROM dbstat WHERE name = 'runs' AND pagetype = 'leaf' LIMIT 1 OFFSET 500")
    .get() as { root: number };
  db.close();
  expect(statSync(path).size).toBeGreaterThan(16_777_216);
  const file = openSync(path, "r+");
  writeSync(file, Buffer.alloc(4_096, 0xff), 0, 4_096, (root - 1) * 4_096);
  closeSync(file);

  const store = openRunStore(path);
  onTestFinished(() => store.close());
  expect(store.list({ source: "script", limit: 50 }).runs).toHaveLength(50);
  const mapped = readFileSync("/proc/self/maps", "utf8").split("\n");
  expect(mapped.filter((line) => line.endsWith(path))).toEqual([]);
});
