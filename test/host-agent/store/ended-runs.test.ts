import { expect, onTestFinished, test } from "vitest";

import { rememberEndedRuns } from "../../../host-agent/store/ended-runs.ts";
import type { Run } from "../../../host-agent/store/run.ts";
import { openRunStore } from "../../../host-agent/store/run-store.ts";
import { newRun } from "../../support/runs.ts";

function runOf(runId: string, facts: Partial<Run> = {}): Run {
  return { ...newRun({ runId }), seq: 1, endedAt: 5, ...facts } as Run;
}

/** A memory of runs, a clock that the test moves, and a database that says `kept.has(runId)`. */
function memory() {
  const clock = { at: 0 };
  const kept = new Set<string>();
  let asked = 0;
  const ended = rememberEndedRuns(
    ({ runId }) => {
      asked++;
      return kept.has(runId);
    },
    () => clock.at,
  );
  return { ended, clock, kept, asked: () => asked };
}

test("a run that has ended is remembered without asking the database again within a second", () => {
  const { ended, clock, asked } = memory();
  const run = runOf("run_000000000001");
  ended.note(run);
  clock.at = 999;
  expect(ended.get(run.runId)).toBe(run);
  expect(asked()).toBe(0);
});

test("a remembered run that another agent has removed is gone after a second", () => {
  const { ended, clock, kept } = memory();
  const run = runOf("run_000000000001");
  kept.add(run.runId);
  ended.note(run);
  clock.at = 1_000;
  expect(ended.get(run.runId)).toBe(run);
  kept.delete(run.runId);
  clock.at = 1_999;
  expect(ended.get(run.runId)).toBe(run);
  clock.at = 2_000;
  expect(ended.get(run.runId)).toBeUndefined();
  kept.add(run.runId);
  expect(ended.get(run.runId)).toBeUndefined();
});

test("a run that is alive is never remembered", () => {
  const { ended } = memory();
  ended.note(runOf("run_000000000001", { endedAt: undefined }));
  expect(ended.get("run_000000000001")).toBeUndefined();
});

test("a run with a long command line is not remembered", () => {
  const { ended } = memory();
  ended.note(runOf("run_000000000001", { cmd: "x".repeat(4_097) }));
  expect(ended.get("run_000000000001")).toBeUndefined();
});

test("a run with a long spec is not remembered", () => {
  const { ended } = memory();
  const spec = { recipe_id: "r", args: "x".repeat(4_097) } as unknown as Run["spec"];
  ended.note(runOf("run_000000000001", { spec }));
  expect(ended.get("run_000000000001")).toBeUndefined();
});

test("at most 512 ended runs are remembered, and the first one read is forgotten first", () => {
  const { ended } = memory();
  for (let n = 0; n <= 512; n++) ended.note(runOf(`run_${n}`));
  expect(ended.get("run_0")).toBeUndefined();
  expect(ended.get("run_1")).toBeDefined();
  expect(ended.get("run_512")).toBeDefined();
});

test("the store does not return an ended run that it has removed, even within a second of reading it", () => {
  const store = openRunStore(":memory:");
  onTestFinished(() => store.close());
  const { run } = store.insertOrFind(
    newRun({ runId: "run_000000000001" }),
    () => true,
    () => {},
  );
  store.failLaunch(run.runId, { reason: "r", endedAt: 5 });
  expect(store.get(run.runId)?.endedAt).toBeDefined();
  expect(store.get(run.runId)?.status).toBe("failed");
  expect([...store.removeAll([run.runId])]).toEqual([run.runId]);
  expect(store.get(run.runId)).toBeUndefined();
});
