import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { describe, expect, test } from "vitest";

import {
  italicsOf,
  matches,
  mentionsNotRun,
  mentionsOf,
  type ReportedTest,
  skipLine,
  testFilesIn,
  unknownSkips,
} from "./suite-checks.ts";
import { tempDir } from "./temp-dir.ts";

const RAN: ReportedTest = { file: "a.test.ts", name: "a group > a full disk stops nothing", hasRun: true };
const SKIPPED: ReportedTest = {
  file: "b.test.ts",
  name: "curl > prints a page",
  hasRun: false,
  reason: "curl is not installed",
};

const mention = (file: string, ...names: string[]) => [{ file, names }];

describe("the end of a test run", () => {
  test("names each skipped test with its reason in one line, and prints nothing when all ran", () => {
    expect(skipLine([RAN, SKIPPED, { ...SKIPPED, name: "x", reason: undefined }])).toBe(
      "Skipped 2: b.test.ts > curl > prints a page (curl is not installed); b.test.ts > x (no reason given)",
    );
    expect(skipLine([RAN])).toBeUndefined();
  });

  test("counts the project's test files, and not those of installed packages", () => {
    const root = tempDir();
    for (const file of ["test/a.test.ts", "test/b/c.test.ts", "test/b/node_modules/x/src/d.test.ts"]) {
      mkdirSync(dirname(join(root, file)), { recursive: true });
      writeFileSync(join(root, file), "");
    }
    expect(testFilesIn(root).toSorted()).toEqual(["test/a.test.ts", "test/b/c.test.ts"]);
  });

  test("accepts a skip that is listed with its reason, by its name or its group's, and no other", () => {
    const known = [{ name: "b.test.ts > curl", reason: "curl is not installed" }];
    expect(unknownSkips([RAN, SKIPPED], known)).toEqual([]);
    const others = [
      { ...SKIPPED, reason: undefined },
      { ...SKIPPED, reason: "wget is not installed" },
      { ...SKIPPED, name: "curly > prints a page" },
      { ...SKIPPED, file: "c.test.ts" },
    ];
    expect(unknownSkips(others, known)).toEqual(others);
  });
});

describe("the tests that a page of docs/ names", () => {
  test("are read from the tables and from the italics", () => {
    const page =
      "| A promise | `a.test.ts`: a full %s; b · `contract/x.ts` |\n| none | text |\n*in italics*, **bold**";
    expect(mentionsOf(page)).toEqual([
      { file: "a.test.ts", names: ["a full %s", "b"] },
      { file: "contract/x.ts", names: [] },
    ]);
    expect(italicsOf(page)).toEqual(["in italics"]);
  });

  test("are reported when they did not run: skipped, renamed, or in another file", () => {
    expect(mentionsNotRun(mention("a.test.ts", "a full %s stops"), [RAN])).toEqual([]);
    expect(mentionsNotRun(mention("a.test.ts"), [RAN])).toEqual([]);
    expect(mentionsNotRun(mention("b.test.ts"), [RAN, SKIPPED])).toEqual(["b.test.ts"]);
    expect(mentionsNotRun(mention("b.test.ts", "prints"), [RAN, SKIPPED])).toEqual(["b.test.ts: prints"]);
    expect(mentionsNotRun(mention("a.test.ts", "gone"), [RAN])).toEqual(["a.test.ts: gone"]);
    const known = [{ name: "b.test.ts > curl", reason: "curl is not installed" }];
    expect(mentionsNotRun(mention("b.test.ts", "prints"), [SKIPPED], known)).toEqual([]);
    expect(mentionsNotRun(mention("b.test.ts", "prints"), [SKIPPED], [])).toEqual(["b.test.ts: prints"]);
  });

  test("of a contract file count when a test file of its folder ran them", () => {
    const inContract = [{ ...RAN, file: "contract/node.test.ts" }];
    const mentions = [{ file: "contract/launch.ts", names: ["a full disk"] }];
    expect(mentionsNotRun(mentions, inContract)).toEqual([]);
    expect(mentionsNotRun(mentions, [RAN])).toEqual(["contract/launch.ts: a full disk"]);
  });

  test.for([
    ["by %s loses no run", "crash > by kill -9 loses no run, no byte", true],
    ["$name is red (a.b)", "doctor > a file is red (a.b)", true],
    ["$name is red (a.b)", "doctor > a file is red (axb)", false],
    ["%s", "", false],
  ] as const)("the name %j and a test named %j: %s", ([part, name, expected]) => {
    expect(matches(part, name)).toBe(expected);
  });
});
