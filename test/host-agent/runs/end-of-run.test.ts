import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";

import { changesBy } from "../../../host-agent/runs/end-of-run.ts";
import { publicRun } from "../../../host-agent/runs/record.ts";
import type { Run } from "../../../host-agent/store/run.ts";
import { createPatience } from "../../../host-agent/system/patience.ts";
import { liveRun } from "../../support/runs.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { unprivileged } from "../../support/unprivileged.ts";
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

test("a log that cannot be read now decides nothing until the patience is over, and then the run ends without it", async () => {
  const logPath = join(tempDir(), "log");
  writeFileSync(logPath, "ERROR\n");
  chmodSync(logPath, 0);
  const noted: string[] = [];
  let isOver = false;
  const patience = {
    isOver(name: string) {
      noted.push(`failed ${name}`);
      return isOver;
    },
    clear: (name: string) => void noted.push(`read ${name}`),
  };
  const deps = { ...DEPS, markersOf: () => [/ERROR/], patience };
  const run = liveRun({ runId: "r", startedAt: 1, logPath });
  const endUnread = (known = run) => unprivileged(async () => changesBy(known, endedWith(0), deps));

  const waiting = await endUnread();
  expect(waiting).toEqual({
    statusReason: "Its log cannot be read now (EACCES); the host-agent tries again for up to 5 minutes.",
  });
  expect(await endUnread({ ...run, ...waiting }), "reported once").toBeUndefined();
  isOver = true;
  expect(await endUnread()).toMatchObject({
    status: "completed",
    statusReason:
      "The command exited with code 0. Its log could not be read for 5 minutes and was not searched for errors.",
  });
  chmodSync(logPath, 0o600);
  expect(changesBy(run, endedWith(0), deps)).toMatchObject({ status: "failed" });
  expect(noted).toEqual(["failed r", "failed r", "failed r", "read r"]);
});

test("a path of a log that no host can open is an error, and is not taken for a log that cannot be read now", () => {
  const run = liveRun({ startedAt: 1, logPath: `/${"x".repeat(300)}` });
  // DEPS has no patience left.
  expect(() => changesBy(run, endedWith(0), DEPS)).toThrow("ENAMETOOLONG");
});

test("a run over which the host was restarted says whether its process had been recorded", () => {
  const end = endedWith(undefined, { rebooted: true });
  const reasonOf = (process: Run["process"]) =>
    changesBy(liveRun({ startedAt: 1, process }), end, DEPS)!.statusReason;
  expect(reasonOf(undefined)).toMatch(/^The host was restarted before its process was recorded/);
  expect(reasonOf({ pid: 7, startTime: "7", bootId: "b" })).toMatch(/^The host was restarted while it ran/);
});
