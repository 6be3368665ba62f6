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
    const { testModules, unhandledErrors } = await vitest.runTestSpecifications(
      await vitest.globTestSpecifications([tests]),
    );
    const errors = [...testModules.flatMap(errorsOf), ...unhandledErrors];
    const hasPassed = errors.length === 0 && testModules.length > 0 && testModules.every((file) => file.ok());
    return { hasPassed, output: errors.map(textOf).join("\n") };
  } catch (error) {
    return { hasPassed: false, output: textOf(error) };
  }
}

function errorsOf(file: TestModule): unknown[] {
  const failed = Array.from(file.children.allTests("failed"));
  return [...file.errors(), ...failed.flatMap((test) => test.result().errors ?? [])];
}

function textOf(error: unknown): string {
  const { stack, message } = error as { stack?: string; message?: string };
  return stack ?? message ?? String(error);
}
