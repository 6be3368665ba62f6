import * as fc from "fast-check";
import { expect, test } from "vitest";

import { commands } from "./commands.ts";
import type { Model } from "./model.ts";
import { World } from "./world.ts";

test(
  "launches, replays, reads, kills, restarts, crashes and elapsed time in random order match the model",
  { timeout: 600_000 },
  async () => {
    await fc.assert(
      fc.asyncProperty(commands, async (chosen) => {
        const world = new World();
        const model: Model = { runs: [], keys: new Map(), now: 0 };
        try {
          await world.start();
          await fc.asyncModelRun(() => ({ model, real: world }), chosen);
          const ran = world.ran();
          const started = model.runs.filter(({ fate }) => fate !== "interrupted");
          expect(ran.toSorted()).toEqual(started.map(({ id }) => id).toSorted());
        } finally {
          await world.close();
        }
      }),
      { numRuns: 5 },
    );
  },
);
