import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";

import { createVitest, type TestModule } from "vitest/node";

import { COMPILE_CACHE } from "../support/compile-cache.ts";

// node vitest-server.ts TMPDIR POOL
//
// Runs tests of the project in the working folder, again and again, without the time that a start of Vitest takes. It
// answers each message of its parent, a TestOrder, with a TestAnswer. Each run has a separate process, or with the pool `threads` a thread, which starts
// in half the time.

/** What to run: a file of tests or those of a folder, after the change of one source file. Absolute paths. */
export interface TestOrder {
  tests: string;
  changed: string | undefined;
}

/** What came of it. `output` is why it failed. */
export interface TestAnswer {
  hasPassed: boolean;
  output: string;
}

const [TMPDIR, pool] = process.argv.slice(2);

const vitest = await createVitest("test", {
  watch: false,
  bail: 1,
  maxWorkers: 1,
  reporters: [{}],
  ...(pool === "threads" && { pool, execArgv: [] }),
  // The tests' own; Vitest keeps what it has compiled in another one.
  env: { ...COMPILE_CACHE, ...(TMPDIR !== undefined && { TMPDIR }) },
});

process.on("message", (order: TestOrder) => {
  void run(order).then((answer) => process.send!(answer));
});
process.on("disconnect", () => process.exit());

async function run({ tests, changed }: TestOrder): Promise<TestAnswer> {
  try {
    if (changed !== undefined) vitest.invalidateFile(changed);
    const specifications = await vitest.globTestSpecifications([tests]);
    const { testModules: known, unhandledErrors } = await vitest.runTestSpecifications(specifications);
    // Vitest answers with all files that it knows: one of an earlier order may have failed then.
    const ordered = new Set(specifications.map(({ moduleId }) => moduleId));
    const testModules = known.filter(({ moduleId }) => ordered.has(moduleId));
    await workersEnded();
    const errors = [...testModules.flatMap(errorsOf), ...unhandledErrors];
    const hasPassed = errors.length === 0 && testModules.length > 0 && testModules.every((file) => file.ok());
    return { hasPassed, output: errors.map(textOf).join("\n") };
  } catch (error) {
    return { hasPassed: false, output: textOf(error) };
  }
}

const WORKERS_END_MS = 5_000;
const LOOK_INTERVAL_MS = 20;

/**
 * Resolves when the process of the tests is gone: a failure is reported while it still ends. If it is killed then, as all that
 * tests leave behind is, Vitest waits for it for ten seconds, and the next tests are taken for ones that last too long.
 */
async function workersEnded(): Promise<void> {
  const giveUpAt = performance.now() + WORKERS_END_MS;
  while (isWorkerAlive() && performance.now() < giveUpAt) await pause(LOOK_INTERVAL_MS);
}

/** Among the children is a watchdog of Vitest's, too, which stays. */
function isWorkerAlive(): boolean {
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, "latin1").split(" ");
  return children.filter(Boolean).some((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "latin1").includes("workers/forks.js");
    } catch {
      return false;
    }
  });
}

function errorsOf(file: TestModule): unknown[] {
  const failed = Array.from(file.children.allTests("failed"));
  return [...file.errors(), ...failed.flatMap((test) => test.result().errors ?? [])];
}

function textOf(error: unknown): string {
  const { stack, message } = error as { stack?: string; message?: string };
  return stack ?? message ?? String(error);
}
