import { setPriority } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { applied, type Mutant, mutantsOf, sampleOf } from "./mutants.ts";
import { shellMutantsOf } from "./shell-mutants.ts";
import { testsOf } from "./tests-of.ts";
import { openWorkingCopy, type WorkingCopy } from "./working-copy.ts";

// npm run mutate -- FILE... [--max N] [--seed S] [--minutes M] [--test TEST]... [--threads]
//
// Breaks each file in small ways, one at a time, in a copy of the project, and prints which breaks the tests of the
// file's room did not notice; with --test, only these files of tests are run. The quick ones are run first.
// With --threads they run in a thread, which starts in half the time: for tests that start no processes.

const PROJECT = join(import.meta.dirname, "..", "..");
/** The tests of a broken file may take this much longer than those of a whole one. */
const SLOWER_TIMES = 3;
const SLOWER_MS = 10_000;
const FIRST_LIMIT_MS = 300_000;
const MAX_SHOWN = 100;
/** Below everything that somebody waits for, and not so low that a busy machine leaves nothing. */
const NICE = 10;

const { values, positionals: files } = parseArgs({
  allowPositionals: true,
  options: {
    max: { type: "string", default: "25" },
    seed: { type: "string", default: "1" },
    minutes: { type: "string", default: "30" },
    test: { type: "string", multiple: true },
    threads: { type: "boolean", default: false },
  },
});

function numberOf(name: "max" | "seed" | "minutes"): number {
  const number = Number(values[name]);
  if (Number.isSafeInteger(number) && number > 0) return number;
  throw new Error(`--${name} must be a whole number above 0, and is ${values[name]}`);
}

async function main(): Promise<void> {
  if (files.length === 0) throw new Error("name at least one file, as `npm run mutate -- handlers/auth.ts`");
  const [max, seed, minutes] = [numberOf("max"), numberOf("seed"), numberOf("minutes")];
  const endAt = Date.now() + minutes * 60_000;
  setPriority(NICE);
  using copy = openWorkingCopy(PROJECT, values.threads ? "threads" : "forks");
  // So that a signal ends what was started, too.
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      copy[Symbol.dispose]();
      process.exit(1);
    });
  }
  const tests = values.test;
  for (const file of files)
    await score(copy, file, { max, seed, endAt, tests: tests ?? testsOf(file, PROJECT) });
}

interface Bounds {
  max: number;
  seed: number;
  /** Epoch milliseconds. */
  endAt: number;
  /** Files or folders of tests, as paths from the root of the project. */
  tests: readonly string[];
}

/** Tries the breaks of one file. Throws when its tests fail without any. */
async function score(
  copy: WorkingCopy,
  file: string,
  { max, seed, endAt, tests: paths }: Bounds,
): Promise<void> {
  const source = copy.read(file);
  const tests = (await timed(copy, paths)).toSorted((a, b) => a.ms - b.ms);
  const mutants = file.endsWith(".sh") ? shellMutantsOf(source) : mutantsOf(source, file);
  const sample = sampleOf(mutants, max, seed);
  const shown = tests.map(({ path, ms }) => `${path} (${ms} ms)`).join(", ");
  console.log(`${file}: ${sample.length} of ${mutants.length} breaks, noticed by ${shown}?`);
  let tried = 0;
  let noticed = 0;
  try {
    for (const mutant of sample) {
      if (Date.now() > endAt) {
        console.log("  the time is over: --minutes");
        break;
      }
      copy.write(file, applied(source, mutant));
      tried++;
      if (await isNoticed(copy, tests)) noticed++;
      else console.log(`  not noticed: ${describe(file, mutant)}`);
    }
  } finally {
    copy.write(file, source);
  }
  const share = Math.floor((100 * noticed) / Math.max(1, tried));
  console.log(`${file}: ${noticed} of ${tried} noticed (${share} %)`);
}

interface Timed {
  path: string;
  ms: number;
}

/** How long each of the tests takes while nothing is broken. Throws when one fails. */
async function timed(copy: WorkingCopy, paths: readonly string[]): Promise<Timed[]> {
  const tests: Timed[] = [];
  for (const path of paths) {
    const begun = performance.now();
    const { verdict, output } = await copy.test(path, FIRST_LIMIT_MS);
    if (verdict !== "passed") throw new Error(`${path}: ${verdict} without any break\n${output}`);
    tests.push({ path, ms: Math.round(performance.now() - begun) });
  }
  return tests;
}

async function isNoticed(copy: WorkingCopy, tests: readonly Timed[]): Promise<boolean> {
  for (const { path, ms } of tests) {
    const { verdict } = await copy.test(path, ms * SLOWER_TIMES + SLOWER_MS);
    if (verdict !== "passed") return true;
  }
  return false;
}

function describe(file: string, { line, before, after }: Mutant): string {
  return `${file}:${line}  ${oneLine(before)}  ->  ${oneLine(after)}`;
}

function oneLine(text: string): string {
  const line = text.replaceAll(/\s+/g, " ");
  return line.length > MAX_SHOWN ? `${line.slice(0, MAX_SHOWN)}…` : line;
}

await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
