import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { type Breakage, type Outcome, playSchedule } from "./simulation.ts";

/** `HUB_TEST_SCHEDULES=20000` plays more of them, for a change of the launch. */
const SCHEDULES = Number(process.env["HUB_TEST_SCHEDULES"] ?? 400);
/** A broken product is found out well before. */
const SCHEDULES_OF_BROKEN = 300;

/** Thousands of little folders need no disk. */
const IN_MEMORY = "/dev/shm";

let dir: string;

beforeEach(() => {
  dir = mkdtempSync(join(existsSync(IN_MEMORY) ? IN_MEMORY : tmpdir(), "hub-sim-"));
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
});

afterEach(() => {
  vi.useRealTimers();
  rmSync(dir, { recursive: true });
});

describe("a launch over many edges, lagging KVs, lost answers, crashes and retries", () => {
  test(`runs exactly once in each of ${SCHEDULES} schedules`, { timeout: 600_000 }, async () => {
    const met: Partial<Outcome["met"]> = {};
    for (let seed = 1; seed <= SCHEDULES; seed++) {
      const outcome = await playSchedule(seed, dir);
      expect(outcome.violations, `of the schedule ${seed}`).toEqual([]);
      for (const [name, times] of Object.entries(outcome.met)) {
        met[name as keyof Outcome["met"]] = (met[name as keyof Outcome["met"]] ?? 0) + times;
      }
    }
    // Else the schedules would prove little.
    for (const [name, times] of Object.entries(met)) expect(times, name).toBeGreaterThan(SCHEDULES / 500);
  });

  test("has the same schedule for the same seed", async () => {
    const first = await playSchedule(11, join(dir, "first"));
    expect(await playSchedule(11, join(dir, "second"))).toEqual(first);
  });
});

const BROKEN: [string, Breakage][] = [
  [
    "a store whose launch token is not unique",
    {
      store: (real) => ({
        ...real,
        findByToken: () => undefined,
        insertOrFind: (run, inForce, admit) =>
          real.insertOrFind({ ...run, launchToken: run.runId }, inForce, admit),
      }),
    },
  ],
  ["a wrapper that does not claim its run", { wrapperIgnoresClaim: true }],
  ["edges that go by the KV alone", { tokenOfEdge: (key, edge) => `${key}-${edge}` }],
];

test.for(BROKEN)("the simulation finds %s", async ([, breakage]) => {
  for (let seed = 1; seed <= SCHEDULES_OF_BROKEN; seed++) {
    const { violations } = await playSchedule(seed, dir, breakage);
    if (violations.length > 0) return;
  }
  expect.unreachable(`nothing in ${SCHEDULES_OF_BROKEN} schedules`);
});
