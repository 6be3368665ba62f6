import { expect, test } from "vitest";

import { CpuCount, MemorySize, PidCount } from "../../../host-agent/protocol/resources.ts";

test.for([
  [1_048_576, 1_048_576],
  ["2147483648", 2_147_483_648],
  ["2G", 2_147_483_648],
  ["1.5G", 1_610_612_736],
  ["512M", 536_870_912],
  ["1024K", 1_048_576],
  ["1T", 1_099_511_627_776],
] as const)("the memory size %j is %d bytes", ([given, bytes]) => {
  expect(MemorySize.parse(given)).toBe(bytes);
});

test.for([0, 1_048_575, -1, 1.5, "1023K", "2GB", "2 G", "G", "", "1e9", "9999999T", true])(
  "the memory size %j is refused",
  (given) => {
    expect(MemorySize.safeParse(given).success).toBe(false);
  },
);

test("cores may be fractions, of at least a hundredth", () => {
  expect([0.01, 0.5, 4_096].map((cores) => CpuCount.parse(cores))).toEqual([0.01, 0.5, 4_096]);
  expect([0, 0.009, 4_097, "1"].map((cores) => CpuCount.safeParse(cores).success)).toEqual([
    false,
    false,
    false,
    false,
  ]);
});

test("a limit of processes leaves the wrapper enough to start a command", () => {
  expect([7, 8, 8.5].map((count) => PidCount.safeParse(count).success)).toEqual([false, true, false]);
});
