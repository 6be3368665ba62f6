import { hash } from "node:crypto";

import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

import { COMPILE_CACHE } from "./test/support/compile-cache.ts";
import { suiteReporter } from "./test/support/suite-reporter.ts";

/** A clone that has never run them does not know which files take long; one of them started last would run on alone. */
const LONG = [
  "behaviour/contract/workerd",
  "behaviour/contract/node-remote",
  "behaviour/contract/node-embedded",
  "adapters/console/run.node-embedded",
  "adapters/console/list.node-embedded",
  "behaviour/simulation/simulation",
  "adapters/console/run.workerd",
];

class LongFilesFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const { shuffle, seed } = this.ctx.config.sequence;
    if (shuffle)
      return files.toSorted((a, b) => (shuffledPlaceOf(a, seed) < shuffledPlaceOf(b, seed) ? -1 : 1));
    // oxlint-disable-next-line unicorn/no-array-sort -- the sequencer's own method, which returns another array
    const sorted = await super.sort(files);
    return sorted.toSorted((a, b) => placeOf(a) - placeOf(b));
  }
}

function placeOf({ moduleId }: TestSpecification): number {
  const place = LONG.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`));
  return place < 0 ? LONG.length : place;
}

/** With --sequence.shuffle the seed alone decides: the same seed gives the same order. */
function shuffledPlaceOf({ moduleId }: TestSpecification, seed: number): string {
  return hash("sha256", `${seed} ${moduleId}`);
}

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Far more than any test takes: a busy machine is no fault of the product.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    // Every test file starts real processes, and much of its time is waiting for them.
    maxWorkers: 4,
    // Files follow each other in one process: to start one for each, and load everything again, takes longer than most of them.
    isolate: false,
    // Of a Hub in a test's own process, too, the spawner finds its code compiled.
    env: COMPILE_CACHE,
    // Each start of a process copies the page tables of the one that starts it: a small heap is quicker here.
    execArgv: ["--max-semi-space-size=2", "--heap-growing-percent=30"],
    sequence: { sequencer: LongFilesFirst },
    reporters: ["default", suiteReporter()],
  },
});
