import { afterAll, expect, test, vi } from "vitest";

import { runRecord } from "../../support/runs.ts";

// A zone whose clocks go forward on 29 March 2026 at 02:00 and back on 25 October at 03:00; set before the formats are made.
vi.stubEnv("TZ", "Europe/Berlin");
afterAll(() => void vi.unstubAllEnvs());
const { layOut, placeTicks, ticksOf } = await import("../../../adapters/console/timeline-layout.ts");

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

test("no label of the timeline touches another or reaches out of the plot, whatever the moment and the width", () => {
  const start = new Date("2026-11-20T00:00").getTime() / 1000;
  for (const width of [180, 300, 431]) {
    for (const hours of [1, 6, 24, 168]) {
      for (let minutes = 0; minutes < 1_440; minutes += 37) {
        const from = start + minutes * 60;
        const ticks = placeTicks({ from, to: from + hours * 3_600, width });
        const spans = ticks.flatMap(({ labelX, label }) =>
          labelX === undefined ? [] : [[labelX - label.length * 3, labelX + label.length * 3] as const],
        );
        expect(spans.length).toBeGreaterThan(2);
        expect(Math.min(...spans.map(([left]) => left))).toBeGreaterThanOrEqual(0);
        expect(Math.max(...spans.map(([, right]) => right))).toBeLessThanOrEqual(width);
        const gaps = spans.slice(1).map(([left], i) => left - spans[i]![1]);
        expect(Math.min(...gaps)).toBeGreaterThan(0);
      }
    }
  }
});

test("scripts of one name in two folders have separate rows, called by their paths", () => {
  const times = { started_at: 50, ended_at: 60 };
  const runs = ["/a/job.sh", "/b/job.sh", "/b/other.sh"].map((path) =>
    runRecord({ ...times, spec: { path, args: "" } }),
  );

  const names = layOut(runs, { from: 0, to: 100, width: 300 }).map(({ name }) => name);

  expect(names).toEqual(["/a/job.sh", "/b/job.sh", "other.sh"]);
});
