import { expect, test } from "vitest";

import { canMount } from "../../support/block-device.ts";
import { needs } from "../../support/needs.ts";
import { prove } from "./prove.ts";
import { kindsOfHarm } from "./saboteur.ts";

/** `npm run prove` is the long version. */
const SHORT = { rounds: 40, seed: 4 } as const;

test(
  "through crashes, stops, bursts, full disks, unreadable files, set clocks and lost answers every acknowledged launch runs once, and every record and log is true",
  { timeout: 300_000 },
  async () => {
    const { counts, violations, skipped } = await prove({ ...SHORT, powerRounds: 0 });
    expect(violations).toEqual([]);
    expect(counts.get("rounds")).toBe(SHORT.rounds);
    expect(counts.get("runs completed")).toBeGreaterThan(SHORT.rounds / 2);
    // Else the rounds would prove little.
    const lacks = [...skipped].join("\n");
    const harms = kindsOfHarm("remote").map(({ name }) => name);
    for (const what of [
      ...harms.filter((name) => !lacks.includes(name)),
      "clock moved past a key's hour",
      "answers replayed",
      "kills",
      "bursts of launches at once",
      "spawner harmed in a burst",
    ])
      expect(counts.get(what), what).toBeGreaterThan(0);
    expect(counts.get("starts of the api")).toBeGreaterThan(4);
    expect(counts.get("starts of the agent")).toBeGreaterThan(2);
  },
);

test(
  "through a loss of power under load every acknowledged launch runs at most once, and is recorded as what it was",
  {
    timeout: 300_000,
    ...needs(canMount("ext4"), "only root with mkfs.ext4 and a loop device can mount an image"),
  },
  async () => {
    const { counts, violations } = await prove({ rounds: 0, seed: 4, powerRounds: 1, lanes: [] });
    expect(violations).toEqual([]);
    expect(counts.get("losses of power on ext4")).toBe(1);
    expect(counts.get("launches acknowledged")).toBeGreaterThan(0);
  },
);
