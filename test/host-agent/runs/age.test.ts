import { expect, test } from "vitest";

import { ageOf } from "../../../host-agent/runs/age.ts";
import { liveRun } from "../../support/runs.ts";

const HOUR_MS = 3_600_000;
const run = liveRun({
  startedAt: 1_000,
  startedUptime: 500,
  launcher: { pid: 1, startTime: "1", bootId: "this boot" },
});

test("the age of a run of this boot does not depend on the wall clock, whichever way it was set", () => {
  for (const at of [0, 1_000, 1_000 + HOUR_MS, 1_000 - HOUR_MS]) {
    expect(ageOf(run, { now: { at, uptime: 2_500 }, bootId: "this boot" })).toBe(2_000);
  }
});

test("the age of a run of another boot, or of an earlier version, is that of the wall clock", () => {
  const now = { at: 1_000 + HOUR_MS, uptime: 7 };
  expect(ageOf(run, { now, bootId: "next boot" })).toBe(HOUR_MS);
  expect(ageOf({ ...run, startedUptime: undefined }, { now, bootId: "this boot" })).toBe(HOUR_MS);
});
