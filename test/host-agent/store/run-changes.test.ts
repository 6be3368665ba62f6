import { expect, onTestFinished, test } from "vitest";

import { launchWrites } from "../../../host-agent/store/launch-writes.ts";
import { openDatabase } from "../../../host-agent/store/migrations.ts";
import { runChanges } from "../../../host-agent/store/run-changes.ts";
import { runQueries } from "../../../host-agent/store/run-queries.ts";
import { transactions } from "../../../host-agent/store/transaction.ts";
import { newRun } from "../../support/runs.ts";

/** More than is left in the last pages of a database. */
const LONG = { statusReason: "x".repeat(100_000) };
const FULL = expect.objectContaining({ errcode: 13 });

/** A run in a database that can grow no more, until the reserve, of `pages`, is released; none for undefined. */
function fullDisk(pages: number | undefined) {
  const db = openDatabase(":memory:");
  onTestFinished(() => db.close());
  const transaction = transactions(db);
  const { run } = launchWrites(db, transaction).insertOrFind(
    newRun(),
    () => true,
    () => {},
  );
  const { page_count: size } = db.prepare("PRAGMA page_count").get() as { page_count: number };
  db.exec(`PRAGMA max_page_count = ${size}`);
  let releases = 0;
  const reserve = {
    release() {
      releases++;
      if (pages !== undefined) db.exec(`PRAGMA max_page_count = ${size + pages}`);
      return pages !== undefined;
    },
    refill() {},
  };
  return { ...runChanges(db, reserve), ...runQueries(db), db, transaction, run, releases: () => releases };
}

function errorOf(work: () => unknown): unknown {
  try {
    return work();
  } catch (error) {
    return error;
  }
}

test("a change for which the disk has no space is written with that of the reserve, and the next one needs none", () => {
  const { change, run, get, releases } = fullDisk(1_000);
  const changed = change(run, LONG);
  expect(changed).toEqual({ ...run, ...LONG });
  expect(get(run.runId)).toEqual(changed);
  expect(releases()).toBe(1);
  expect(change(changed!, { statusReason: "short" })).toMatchObject({ statusReason: "short" });
  expect(releases()).toBe(1);
});

test("a change is not written, and the error is the disk's, without a reserve or with one that is too small", () => {
  for (const pages of [undefined, 1]) {
    const { change, run, get, releases } = fullDisk(pages);
    expect(
      errorOf(() => change(run, LONG)),
      String(pages),
    ).toEqual(FULL);
    expect(get(run.runId)).toEqual(run);
    expect(releases()).toBe(1);
  }
});

test("a change that is one of many in a transaction takes all of them back, and leaves the reserve for those that are written one by one", () => {
  const { change, transaction, db, run, get, releases } = fullDisk(1_000);
  const work = () => {
    change(change(run, { statusReason: "short" })!, LONG);
  };
  expect(errorOf(() => transaction(work))).toEqual(FULL);
  expect(db.isTransaction).toBe(false);
  expect(get(run.runId)).toEqual(run);
  expect(releases()).toBe(0);
});

test("a change that fails for another reason than the disk leaves the reserve alone and is not tried again", () => {
  const { change, db, run, releases } = fullDisk(1_000);
  let attempts = 0;
  db.function("attempt", () => {
    attempts++;
    throw new Error("on purpose");
  });
  db.exec("CREATE TEMP TRIGGER broken BEFORE UPDATE ON runs BEGIN SELECT attempt(); END");
  expect(() => change(run, { statusReason: "short" })).toThrow("on purpose");
  expect(attempts).toBe(1);
  expect(releases()).toBe(0);
});
