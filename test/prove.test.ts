import { expect, test } from "vitest";

import { prove } from "./prove/prove.ts";

/** `npm run prove` is the long version. */
const SHORT = { rounds: 10, seed: 4, lanes: ["embedded", "remote"] } as const;

test(
  "whatever dies, stops, fills up or gets lost: every acknowledged launch ran once, every record and log is true",
  { timeout: 120_000 },
  async () => {
    const { counts, violations } = await prove(SHORT);
    expect(violations).toEqual([]);
    expect(counts.get("rounds")).toBe(SHORT.rounds);
    expect(counts.get("runs completed")).toBeGreaterThan(SHORT.rounds / 2);
  },
);
