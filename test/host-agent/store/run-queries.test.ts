import { expect, onTestFinished, test } from "vitest";

import type { ListQuery } from "../../../host-agent/store/list-query.ts";
import { openRunStore } from "../../../host-agent/store/run-store.ts";
import type { NewRun, RunChanges } from "../../../host-agent/store/run.ts";
import { newRun } from "../../support/runs.ts";

function emptyStore() {
  const store = openRunStore(":memory:");
  onTestFinished(() => store.close());
  function launch(given: Partial<NewRun> = {}, changes?: RunChanges) {
    const { run } = store.insertOrFind(
      newRun(given),
      () => true,
      () => {},
    );
    return changes === undefined ? run : store.change(run, changes)!;
  }
  return { store, launch };
}

const ENDED: RunChanges = { status: "completed", endedAt: 5 };

test("each filter of a list, and each two of them, find exactly their runs, newest first, page by page", () => {
  const { store, launch } = emptyStore();
  const runs = (["script", "pipeline"] as const).flatMap((source) =>
    [undefined, "a", "b"].flatMap((label) =>
      [undefined, { status: "running" } as const, ENDED, { status: "failed", endedAt: 5 } as const].flatMap(
        (changes) => [0, 1].map(() => launch({ source, label }, changes)),
      ),
    ),
  );
  const statuses = [undefined, "running", "completed", "failed", "killed"] as const;
  for (const source of ["script", "pipeline"] as const) {
    for (const label of [undefined, "a", "none"]) {
      for (const status of statuses) {
        const query: ListQuery = { source, label, status, limit: 100 };
        const expected = runs
          .filter(
            (run) =>
              run.source === source &&
              (label === undefined || run.label === label) &&
              (status === undefined ||
                run.status === status ||
                (status === "running" && run.status === "launching")),
          )
          .toReversed();
        expect(store.list(query).runs, JSON.stringify(query)).toEqual(expected);
        const page = store.list({ ...query, limit: 2 }).runs;
        expect(page).toEqual(expected.slice(0, 2));
        expect(store.list({ ...query, before: page.at(-1)?.seq, limit: 2 }).runs).toEqual(
          expected.slice(2, 4),
        );
      }
    }
  }
});

test("a token finds the run that holds it, and an id its run", () => {
  const { store, launch } = emptyStore();
  const run = launch({ launchToken: "t", startedUptime: 7 });
  expect(store.findByToken("t")).toEqual(run);
  expect(store.findByToken("other")).toBeUndefined();
  expect(store.get(run.runId)).toEqual(run);
  expect(store.get("run_ffffffffffff")).toBeUndefined();
});

/** What a run that was started in this boot of the host records. */
const started = (bootId: string) => ({ process: { pid: 1, startTime: "1", bootId } });

test("the boot of the host began at the earliest time that one of its runs makes it", () => {
  const { store, launch } = emptyStore();
  expect(store.earliestBoot("this boot")).toBeUndefined();
  launch({ startedAt: 5_000, startedUptime: 1_000 }, started("this boot"));
  launch({ startedAt: 90_000, startedUptime: 2_000 }, { ...started("this boot"), ...ENDED });
  launch({ startedAt: 10, startedUptime: 3 }, started("another boot"));
  launch({ startedAt: 1, startedUptime: undefined }, started("this boot"));
  expect(store.earliestBoot("this boot")).toBe(4_000);
});

test("the boot of a host without a clock that keeps the time began in 1970", () => {
  const { store, launch } = emptyStore();
  launch({ startedAt: 1_000, startedUptime: 1_000 }, started("this boot"));
  expect(store.earliestBoot("this boot")).toBe(0);
});

test("a run that has ended is decoded once, and one that is alive each time", () => {
  const { store, launch } = emptyStore();
  const [alive, ended] = [launch(), launch({}, ENDED)];
  for (const { runId } of [alive, ended]) store.get(runId);
  store.change(alive, { statusReason: "another" });
  expect(store.get(alive.runId)).toMatchObject({ statusReason: "another" });
  expect(store.get(ended.runId)).toBe(store.get(ended.runId));
});

test("the path of a log is taken while its run may be alive", () => {
  const { store, launch } = emptyStore();
  const run = launch({ logPath: "/x.log" });
  expect(store.isLogTaken("/x.log")).toBe(true);
  expect(store.isLogTaken("/y.log")).toBe(false);
  store.change(run, ENDED);
  expect(store.isLogTaken("/x.log")).toBe(false);
});

test("runs that may be alive are listed oldest first, and counted", () => {
  const { store, launch } = emptyStore();
  const [first, , last] = [launch(), launch({}, ENDED), launch()];
  expect(store.alive()).toEqual([first, last]);
  expect(store.countAlive()).toBe(2);
});

test("runs that may be alive are found page by page, after the one with a sequence number, and the last page has no next one", () => {
  const { store, launch } = emptyStore();
  expect(store.newestSeq()).toBe(0);
  expect(store.aliveAfter(0, 2)).toEqual({ runs: [], next: undefined });
  const [first, , second, third] = [launch(), launch({}, ENDED), launch(), launch()];
  expect(store.newestSeq()).toBe(third.seq);
  expect(store.aliveAfter(0, 2)).toEqual({ runs: [first, second], next: second.seq });
  expect(store.aliveAfter(second.seq, 2)).toEqual({ runs: [third], next: undefined });
});

test("runs that have ended are found by when they ended, the longest ended first, as many as are asked for", () => {
  const { store, launch } = emptyStore();
  const at = (endedAt: number, logLimit?: number) => launch({ logLimit }, { status: "completed", endedAt });
  const [late, early, limited] = [at(30), at(10), at(20, 5)];
  launch({ logLimit: 5 });
  const endedBefore = (time: number, limit: number) =>
    store.endedBefore(time, limit).map(({ runId }) => runId);
  expect(endedBefore(31, 10)).toEqual([early.runId, limited.runId, late.runId]);
  expect(endedBefore(30, 10)).toEqual([early.runId, limited.runId]);
  expect(endedBefore(31, 1)).toEqual([early.runId]);
  expect(store.limitedEndedSince(20)).toEqual([limited]);
  expect(store.limitedEndedSince(21)).toEqual([]);
});
