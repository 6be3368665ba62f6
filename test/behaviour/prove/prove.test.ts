import { expect, test } from "vitest";

import { prove } from "./prove.ts";
import { kindsOfHarm } from "./saboteur.ts";

/** `npm run prove` is the long version. */
const SHORT = { rounds: 28, seed: 4, lanes: ["embedded", "remote"] } as const;

test(
  "through crashes, stops, full disks and lost answers every acknowledged launch runs once, and every record and log is true",
  { timeout: 120_000 },
  async () => {
    const { counts, violations } = await prove(SHORT);
    expect(violations).toEqual([]);
    expect(counts.get("rounds")).toBe(SHORT.rounds);
    expect(counts.get("runs completed")).toBeGreaterThan(SHORT.rounds / 2);
    // Else the rounds would prove little.
    for (const { name } of kindsOfHarm("remote")) expect(counts.get(name), name).toBeGreaterThan(0);
    for (const what of ["clock moved past a key's hour", "answers replayed", "kills"])
      expect(counts.get(what), what).toBeGreaterThan(0);
    expect(counts.get("starts of the api")).toBeGreaterThan(SHORT.lanes.length);
    expect(counts.get("starts of the agent")).toBeGreaterThan(1);
  },
);
