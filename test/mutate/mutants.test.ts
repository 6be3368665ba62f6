import { execFile, spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

import { describe, expect, test } from "vitest";

import { needs } from "../support/needs.ts";
import { tempDir } from "../support/temp-dir.ts";
import { applied, mutantsOf, sampleOf } from "./mutants.ts";
import { shellMutantsOf } from "./shell-mutants.ts";
import { ALSO, testsOf } from "./tests-of.ts";

const PROJECT = join(import.meta.dirname, "..", "..");

const breaksOf = (source: string) =>
  mutantsOf(source, "x.ts").map(({ before, after }) => `${before} -> ${after}`);

const shellBreaksOf = (source: string) =>
  shellMutantsOf(source).map(({ line, before, after }) => `${line}: ${before} -> ${after}`);

describe("the small breaks of a source", () => {
  test.for<[string, string[]]>([
    ["if (a) b = 1;", ["a -> true", "a -> false", "a -> !(a)", "b = 1; -> ;", "1 -> 2", "1 -> 0"]],
    ["while (a) f();", ["a -> false", "f(); -> ;"]],
    ["let x = a <= b;", ["a <= b -> (a < b)"]],
    ["let x = a && b;", ["a && b -> (a || b)"]],
    ["let x = a || b;", ["a || b -> (a && b)", "a || b -> (a ?? b)"]],
    ["let x = a ?? b;", ["a ?? b -> (a || b)"]],
    ["let x = a ?? false;", ["false -> true"]],
    ["let x = !a;", ["!a -> a"]],
    ["let x = true;", ["true -> false"]],
    ["let x = 0;", ["0 -> 1", "0 -> (-1)"]],
    ["let x = 'a';", [`'a' -> ""`]],
    ["let x = `a${b}`;", ["`a${b}` -> ``"]],
    ["await f(a);", ["await f(a) -> f(a)", "await f(a); -> ;"]],
    ["let x = a.some(f);", ["some -> every"]],
    [
      "function f() { if (a) return; g(); return 1; }",
      ["a -> true", "a -> false", "a -> !(a)", "return; -> ;", "g(); -> ;", "1 -> 2", "1 -> 0"],
    ],
    ["function f() { throw e; }", ["throw e; -> ;"]],
  ])("%s", ([source, breaks]) => expect(breaksOf(source)).toEqual(breaks));

  test("leave types, imports and names of properties alone", () => {
    expect(
      breaksOf(`import { a } from "b"; type T = "x" | 1; interface I { k: true }
        let x: T = y as "z"; let o = { "k": a! };`),
    ).toEqual([]);
  });

  test("parse, and differ from the source in one place", () => {
    const source = "let x = a ?? (b || c);";
    const sources = mutantsOf(source, "x.ts").map((mutant) => applied(source, mutant));
    expect(sources).toEqual([
      "let x = (a || (b || c));",
      "let x = a ?? ((b && c));",
      "let x = a ?? ((b ?? c));",
    ]);
  });

  test("of a source that cannot be parsed are none, and the error names the file", () => {
    expect(() => mutantsOf("let = ;", "x.ts")).toThrow(/^x\.ts cannot be parsed: /);
  });

  test("are sampled alike with the same seed, and kept in their order", () => {
    const mutants = mutantsOf(`f(${Array.from({ length: 50 }, (_, i) => i + 1).join(", ")});`, "x.ts");
    const sample = sampleOf(mutants, 10, 1);
    expect(sample).toHaveLength(10);
    expect(sampleOf(mutants, 10, 1)).toEqual(sample);
    expect(sampleOf(mutants, 10, 2)).not.toEqual(sample);
    expect(sample).toEqual(sample.toSorted((a, b) => a.start - b.start));
  });
});

describe("the small breaks of a shell script", () => {
  test.for<[string, string[]]>([
    ["a=1", ["1: a=1 -> :", "1: 1 -> 2"]],
    ["\n  shift", ["2: shift -> :"]],
    ["exit 75", ["1: exit 75 -> :", "1: 75 -> 76"]],
    ["a || exit", ["1: a || exit -> :", "1: || -> &&", "1:  || exit -> "]],
    ["a >b 2>&1", ["1: a >b 2>&1 -> :", "1:  >b -> ", "1:  2>&1 -> "]],
    ["trap : TERM INT", ["1: trap : TERM INT -> :", "1:  TERM -> ", "1:  INT -> "]],
    [
      'if [ "$a" -eq 0 ]; then\n  :\nfi',
      ['1: [ "$a" -eq 0 ] -> true', '1: [ "$a" -eq 0 ] -> false', "1: -eq -> -ne", "1: 0 -> 1"],
    ],
    ["# a || b >c 1", []],
  ])("%j", ([source, breaks]) => expect(shellBreaksOf(source)).toEqual(breaks));

  test("are accepted by the shell, and differ from the script in one place", () => {
    const source = "{ a 1; } 2>b || c\n";
    for (const mutant of shellMutantsOf(source)) {
      const { status } = spawnSync("/bin/sh", ["-n"], { input: applied(source, mutant) });
      expect(status, mutant.after).toBe(0);
    }
    expect(shellMutantsOf(source).length).toBeGreaterThan(3);
  });
});

test("each file that the map of tests names exists", () => {
  const named = Object.entries(ALSO).flatMap(([file, tests]) => [
    file,
    ...tests.map((path) => `test/${path}`),
  ]);
  expect(named.filter((path) => !existsSync(join(PROJECT, path)))).toEqual([]);
  expect(testsOf("handlers/auth.ts", PROJECT)).toEqual(["test/handlers/auth.test.ts"]);
  expect(testsOf("handlers/kv.ts", PROJECT), "without tests of its name").toEqual(["test/handlers/"]);
  expect(() => testsOf("none/x.ts", PROJECT)).toThrow("none/x.ts has no tests");
});

test(
  "`npm run mutate` tries at most --max breaks, reports them, and leaves nothing behind",
  // It starts Vitest in the middle of a run of Vitest.
  { ...needs(existsSync(join(PROJECT, ".git")), "this is no clone of git"), timeout: 180_000 },
  async () => {
    const dir = tempDir();
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [join(import.meta.dirname, "main.ts"), "handlers/auth.ts", "--max", "1"],
      { env: { ...process.env, TMPDIR: dir } },
    );
    expect(stdout).toMatch(
      /^handlers\/auth\.ts: 1 of \d+ breaks, noticed by test\/handlers\/auth\.test\.ts \(/,
    );
    expect(stdout).toMatch(/^handlers\/auth\.ts: [01] of 1 noticed \(\d+ %\)$/m);
    expect(readdirSync(dir)).toEqual([]);
  },
);
