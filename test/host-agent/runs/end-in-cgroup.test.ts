import { expect, test } from "vitest";

import { changesBy } from "../../../host-agent/runs/end-of-run.ts";
import { publicRun } from "../../../host-agent/runs/record.ts";
import { createPatience } from "../../../host-agent/system/patience.ts";
import { liveRun } from "../../support/runs.ts";
import { endedWith } from "./scripted-executor.ts";

const DEPS = { markersOf: () => [], now: 9_000, patience: createPatience(0) };
const FACTS = { leftBehind: 2, cpuUsec: 1_234_567, memoryPeak: 104_857_600, oomKills: 0 };

test.for([
  [0, "The command exited with code 137 (SIGKILL, not sent through this API)."],
  [
    1,
    "The command exited with code 137 (SIGKILL, not sent through this API). Out of memory: the kernel killed one of its processes.",
  ],
  [
    3,
    "The command exited with code 137 (SIGKILL, not sent through this API). Out of memory: the kernel killed 3 of its processes.",
  ],
] as const)("the reason of a run names %d kills of the kernel for memory", ([oomKills, statusReason]) => {
  const changes = changesBy(
    liveRun({ startedAt: 1 }),
    endedWith(137, { cgroup: { ...FACTS, oomKills } }),
    DEPS,
  );
  expect(changes).toMatchObject({ status: "failed", statusReason });
});

test("what a cgroup said at the end of a run is recorded, and shown in seconds and bytes", () => {
  const run = liveRun({ startedAt: 1 });
  const changes = changesBy(run, endedWith(0, { cgroup: FACTS }), DEPS)!;
  expect(changes.usage).toEqual({ leftBehind: 2, cpuUsec: 1_234_567, memoryPeak: 104_857_600 });
  expect(publicRun({ ...run, ...changes })).toMatchObject({
    left_behind: 2,
    usage: { cpu_seconds: 1.235, memory_peak_bytes: 104_857_600 },
  });
  const uncounted = { ...changes.usage!, memoryPeak: undefined };
  expect(publicRun({ ...run, usage: uncounted }).usage).toEqual({
    cpu_seconds: 1.235,
    memory_peak_bytes: null,
  });
});

test("the record of a run without a cgroup has no field more than before", () => {
  const run = liveRun({ startedAt: 1 });
  const changes = changesBy(run, endedWith(0), DEPS)!;
  expect(Object.keys(changes)).not.toContain("usage");
  const fields = Object.keys(publicRun({ ...run, ...changes }));
  expect(fields.filter((field) => ["usage", "left_behind"].includes(field))).toEqual([]);
});
