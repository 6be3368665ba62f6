import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";

import { cgroupFacts } from "../../../host-agent/executor/cgroup-leaf.ts";
import { cgroupLeaves } from "../../../host-agent/executor/cgroup-leaves.ts";
import { unenforceable, writeLimits } from "../../../host-agent/executor/cgroup-limits.ts";
import { tempDir } from "../../support/temp-dir.ts";

// Scratch trees: ordinary folders with files in the kernel's formats.

/** A folder with these files. */
function scratch(files: Record<string, string>): string {
  const dir = tempDir();
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
  return dir;
}

const LIMIT_FILES = { "memory.max": "", "cpu.max": "", "pids.max": "" };
const text = (dir: string, name: string) => readFileSync(join(dir, name), "utf8");

test("limits are written in the kernel's formats: bytes, quota and period in microseconds, a number (scratch tree)", () => {
  const leaf = scratch(LIMIT_FILES);
  writeLimits(leaf, { memoryMax: 2_147_483_648, cpuMax: 1.5, pidsMax: 64 });
  expect([text(leaf, "memory.max"), text(leaf, "cpu.max"), text(leaf, "pids.max")]).toEqual([
    "2147483648",
    "150000 100000",
    "64",
  ]);
});

test("a limit that is not set is not written (scratch tree)", () => {
  const leaf = scratch(LIMIT_FILES);
  writeLimits(leaf, { cpuMax: 0.01 });
  expect([text(leaf, "memory.max"), text(leaf, "cpu.max"), text(leaf, "pids.max")]).toEqual([
    "",
    "1000 100000",
    "",
  ]);
});

test("a limit whose file does not exist is an error, and makes no file (scratch tree)", () => {
  const leaf = scratch({});
  expect(() => writeLimits(leaf, { memoryMax: 2_147_483_648 })).toThrow("ENOENT");
  expect(() => text(leaf, "memory.max")).toThrow("ENOENT");
});

test("a limit is enforceable only with its controller", () => {
  const limits = { memoryMax: 1_048_576, cpuMax: 1, pidsMax: undefined };
  const fields = (...controllers: ("memory" | "cpu" | "pids")[]) =>
    unenforceable(limits, new Set(controllers)).map(({ field }) => field);
  expect(fields()).toEqual(["memory_max", "cpu_max"]);
  expect(fields("memory")).toEqual(["cpu_max"]);
  expect(fields("memory", "cpu")).toEqual([]);
});

test("a run whose limit cannot be enforced is refused with the name of the limit, and gets no leaf", () => {
  const leaves = cgroupLeaves({ path: tempDir(), controllers: new Set(["pids"]), why: "x" }, {});
  expect(leaves.problem({ pidsMax: 10 })).toBeUndefined();
  expect(leaves.problem({ pidsMax: 10, memoryMax: 1_048_576 })).toMatchObject({
    code: "launch_failed",
    message: expect.stringContaining("cannot enforce memory_max;"),
  });
  expect(cgroupLeaves({ path: undefined, why: "x" }, {}).problem({ cpuMax: 1 })?.message).toContain(
    "cpu_max",
  );
});

test("the host's default limits hold for a run without its own of that kind (scratch tree)", async () => {
  const root = tempDir();
  const leaves = cgroupLeaves(
    { path: root, controllers: new Set(["memory", "pids"]), why: undefined },
    { memoryMax: 1_048_576, pidsMax: 100 },
  );
  // The kernel makes these files; here mkdir(2) makes none, and the first write names what would have been written.
  await expect(leaves.startIn(join(root, "run"), { memoryMax: 2_097_152 }, async () => 0)).rejects.toThrow();
  expect(leaves.problem(undefined)).toBeUndefined();
});

test("what a run used is read from cpu.stat, memory.peak and memory.events (scratch tree)", () => {
  const leaf = scratch({
    "cgroup.procs": "",
    "cpu.stat": "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\nnr_periods 0\n",
    "memory.peak": "104857600\n",
    "memory.events": "low 0\nhigh 0\nmax 12\noom 2\noom_kill 2\noom_group_kill 0\n",
  });
  expect(cgroupFacts(leaf, undefined)).toEqual({
    leftBehind: 0,
    cpuUsec: 1_234_567,
    memoryPeak: 104_857_600,
    oomKills: 2,
  });
});

test("without the memory controller nothing is said of memory (scratch tree)", () => {
  const leaf = scratch({ "cgroup.procs": "", "cpu.stat": "usage_usec 5\n" });
  expect(cgroupFacts(leaf, undefined)).toEqual({
    leftBehind: 0,
    cpuUsec: 5,
    memoryPeak: undefined,
    oomKills: 0,
  });
});

test("a leaf that does not exist says nothing", () => {
  expect(cgroupFacts(join(tempDir(), "none"), undefined)).toBeUndefined();
});
