import { afterAll, expect, test, vi } from "vitest";

// A zone whose clocks go forward on 29 March 2026 at 02:00 and back on 25 October at 03:00; set before the formats are made.
vi.stubEnv("TZ", "Europe/Berlin");
afterAll(() => void vi.unstubAllEnvs());
const { ticksOf } = await import("../../../adapters/console/timeline-layout.ts");

/** The ticks' local times, such as `2026-03-29 00:00`. */
function ticksBetween(from: string, hours: number): string[] {
  const start = new Date(from).getTime() / 1000;
  return ticksOf(start, start + hours * 3_600).map(({ at }) => {
    const shifted = new Date((at - new Date(at * 1000).getTimezoneOffset() * 60) * 1000);
    return shifted.toISOString().slice(0, 16).replace("T", " ");
  });
}

test.for([
  ["2026-03-25T12:00", ["26", "27", "28", "29", "30", "31"].map((day) => `2026-03-${day} 00:00`)],
  ["2026-10-22T12:00", ["23", "24", "25", "26", "27", "28"].map((day) => `2026-10-${day} 00:00`)],
] as const)(
  "the timeline's days after %s start at midnight on both sides of a change of the clocks",
  ([from, days]) => {
    expect(ticksBetween(from, 6 * 24)).toEqual(days);
  },
);

test("the timeline's hours of a night in which the clocks change are round, without a duplicate", () => {
  expect(ticksBetween("2026-03-28T23:30", 6)).toEqual([
    "2026-03-29 00:00",
    "2026-03-29 01:00",
    "2026-03-29 03:00",
    "2026-03-29 04:00",
    "2026-03-29 05:00",
    "2026-03-29 06:00",
  ]);
});
