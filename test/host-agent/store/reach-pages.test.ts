import * as fc from "fast-check";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";

import { type Reach, reachesRun } from "../../../host-agent/protocol/reach.ts";
import type { ListQuery } from "../../../host-agent/store/list-query.ts";
import { NO_RESERVE } from "../../../host-agent/store/disk-reserve.ts";
import { launchWrites } from "../../../host-agent/store/launch-writes.ts";
import { openDatabase } from "../../../host-agent/store/migrations.ts";
import {
  limitsRuns,
  type PageBounds,
  reachPages,
  type ReachQuery,
} from "../../../host-agent/store/reach-pages.ts";
import { runChanges } from "../../../host-agent/store/run-changes.ts";
import { transactions } from "../../../host-agent/store/transaction.ts";
import { openRunStore } from "../../../host-agent/store/run-store.ts";
import {
  decodeRun,
  type NewRun,
  type Run,
  type RunChanges,
  type RunRow,
  targetOf,
} from "../../../host-agent/store/run.ts";
import { newRun } from "../../support/runs.ts";

const STATES: (RunChanges | undefined)[] = [
  undefined,
  { status: "running" },
  { status: "completed", endedAt: 5 },
  { status: "failed", endedAt: 5 },
];
const STATUSES = [undefined, "running", "completed", "failed", "killed"] as const;
const SOURCES = ["pipeline", "script"] as const;
const ODD = ["%", "_", "[a]", "\\", "'", '"', "\n", "\u00e9", "\u{1f600}", "?", "-", "a b"];

const target = fc.oneof(
  fc.constantFrom("nightly_a", "nightly_b", "build", "nightly").map(ofRecipe),
  fc
    .array(fc.constantFrom("a", "b", ...ODD), { minLength: 1, maxLength: 2 })
    .map((parts) => ofScript(`/s/${parts.join("/")}.sh`)),
);
const run = fc.record({
  what: target,
  keyName: fc.constantFrom("k", "other"),
  label: fc.constantFrom(undefined, "l"),
  state: fc.constantFrom(...STATES),
});
const reach: fc.Arbitrary<Reach> = fc.record(
  {
    recipes: fc.subarray(["nightly_*", "nightly", "*d", "none"], { minLength: 1 }),
    script_paths: fc.subarray(["/s/*.sh", "/s/a/**", "/s/**", "/s/%.sh", "/s/[a]*", "/s/\u{1f600}*/*.sh"], {
      minLength: 1,
    }),
    key_name: fc.constantFrom("k", "nobody"),
  },
  { requiredKeys: [] },
);

function ofRecipe(recipe_id: string): Partial<NewRun> {
  return { source: "pipeline", spec: { recipe_id, args: "" } };
}

function ofScript(path: string): Partial<NewRun> {
  return { source: "script", spec: { path: "/link.sh", args: "" }, scriptPath: path };
}

function emptyStore(bounds?: PageBounds) {
  const db = openDatabase(":memory:");
  onTestFinished(() => {
    if (db.isOpen) db.close();
  });
  const transaction = transactions(db);
  const { insertOrFind } = launchWrites(db, transaction);
  const { change } = runChanges(db, NO_RESERVE);
  const pages = reachPages(db, bounds);
  return {
    db,
    transaction,
    list: (query: ReachQuery): Run[] => (Array.from(pages(query)) as RunRow[]).map(decodeRun),
    launch(given: Partial<NewRun>, changes?: RunChanges): Run {
      const { run: launched } = insertOrFind(
        newRun(given),
        () => true,
        () => {},
      );
      return changes === undefined ? launched : change(launched, changes)!;
    },
  };
}

/** Each makes other runs be found in another way: by the short walk, by their groups, by the long walk. */
const WAYS: [string, PageBounds | undefined][] = [
  ["a short walk", undefined],
  ["their groups", { shortWalk: 0, groups: 1_000, lookedAt: 1_000 }],
  ["a long walk, because there are too many groups", { shortWalk: 1, groups: 1, lookedAt: 1_000 }],
  ["a long walk, because there is too much to look at", { shortWalk: 0, groups: 1_000, lookedAt: 2 }],
];

test.for(WAYS)(
  "found by %s, a list has exactly the runs in reach, newest first, page by page",
  ([, bounds]) => {
    fc.assert(
      fc.property(
        fc.array(run, { maxLength: 30 }),
        reach,
        fc.integer({ min: 1, max: 4 }),
        (given, of, limit) => {
          const { db, list, launch } = emptyStore(bounds);
          const runs = given.map(({ what, state, ...more }) => launch({ ...what, ...more }, state));
          for (const source of SOURCES.filter((each) => limitsRuns(of, each))) {
            for (const status of STATUSES) {
              for (const label of [undefined, "l"]) {
                const expected = runs
                  .filter(
                    (each) =>
                      each.source === source &&
                      reachesRun(of, { ...each, target: targetOf(each) }) &&
                      (label === undefined || each.label === label) &&
                      (status === undefined ||
                        (each.status === "launching" ? "running" : each.status) === status),
                  )
                  .toReversed();
                const query = { source, status, label, limit, reach: of };
                const page = list(query);
                expect(page, JSON.stringify(query)).toEqual(expected.slice(0, limit + 1));
                const before = page.at(-1)?.seq;
                expect(list({ ...query, before })).toEqual(
                  before === undefined ? [] : expected.slice(limit + 1, 2 * (limit + 1)),
                );
              }
            }
          }
          db.close();
        },
      ),
      { numRuns: 20 },
    );
  },
);

describe("a run of an earlier version, which recorded no real path of its script", () => {
  const store = openRunStore(":memory:");
  const { run: old } = store.insertOrFind(
    newRun({ spec: { path: "/s/a.sh", args: "" } }),
    () => true,
    () => {},
  );
  afterAll(() => store.close());
  const list = (given: Reach) => store.list({ source: "script", limit: 5, reach: given }).runs;

  test("is out of reach of every pattern of paths", () => {
    for (const pattern of ["/**", "/s/a.sh", "/*"])
      expect(list({ script_paths: [pattern] }), pattern).toEqual([]);
  });

  test("is its own key's", () => {
    expect(list({ key_name: "k" })).toEqual([old]);
    expect(list({ recipes: ["a"] })).toEqual([old]);
  });
});

test("a page says whether there is another one, and where it begins", () => {
  const store = openRunStore(":memory:");
  onTestFinished(() => store.close());
  const launch = (recipe_id: string) =>
    store.insertOrFind(
      newRun(ofRecipe(recipe_id)),
      () => true,
      () => {},
    ).run;
  const [first, , second, third] = ["a", "b", "a", "a"].map(launch);
  const query: ListQuery = { source: "pipeline", limit: 2, reach: { recipes: ["a"] } };
  expect(store.list(query)).toEqual({ runs: [third, second], next: second!.seq });
  expect(store.list({ ...query, before: second!.seq })).toEqual({ runs: [first], next: undefined });
});
