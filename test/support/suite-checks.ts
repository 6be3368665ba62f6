import { globSync } from "node:fs";

import type { KnownSkip } from "./known-skips.ts";

/** One test, as a line of output names it. */
export interface ReportedTest {
  /** Its file from test/. */
  file: string;
  /** The groups and the test, joined with " > ". */
  name: string;
  /** Whether it ran, to whichever end. */
  hasRun: boolean;
  /** Why it did not, if the test gives a reason. */
  reason?: string | undefined;
}

/** A mention of tests in a table of docs/: a file from test/, and parts of names, if it is not all of them. */
export interface Mention {
  file: string;
  names: string[];
}

/** The test files of the project in `root`, from there; those of installed packages are none of them. */
export function testFilesIn(root: string): string[] {
  return globSync("test/**/*.test.ts", { cwd: root, exclude: ["**/node_modules/**"] });
}

/** One line that names each skipped test with its reason; undefined when all have run. */
export function skipLine(tests: readonly ReportedTest[]): string | undefined {
  const skipped = tests.filter(({ hasRun }) => !hasRun);
  if (skipped.length === 0) return undefined;
  const items = skipped.map((one) => `${one.file} > ${one.name} (${one.reason ?? "no reason given"})`);
  return `Skipped ${skipped.length}: ${items.join("; ")}`;
}

/** The skipped tests that the list does not have with this name and this reason. */
export function unknownSkips(tests: readonly ReportedTest[], known: readonly KnownSkip[]): ReportedTest[] {
  return tests.filter((one) => !one.hasRun && !isListed(one, known));
}

function isListed({ file, name, reason }: ReportedTest, known: readonly KnownSkip[]): boolean {
  return known.some((one) => one.reason === reason && `${file} > ${name} > `.startsWith(`${one.name} > `));
}

/** The mentions of tests in the tables of docs/guarantees.md. */
export function mentionsOf(page: string): Mention[] {
  return page
    .split("\n")
    .filter((line) => line.startsWith("| ") && line.includes(".ts`"))
    .flatMap((line) => line.split(" | ")[1]!.replace(/ \|$/, "").split(" · "))
    .map((mention) => {
      const { file, names } = /^`(?<file>[^`]+\.ts)`(?:: (?<names>.+))?$/.exec(mention)?.groups ?? {};
      return { file: file ?? mention, names: names?.split("; ") ?? [] };
    });
}

/** The names of tests that docs/security.md has in italics. */
export function italicsOf(page: string): string[] {
  const text = page.replaceAll("\n", " ");
  return [...text.matchAll(/(?<!\*)\*(?<name>[^*]+)\*(?!\*)/g)].map(({ groups }) => groups!["name"]!);
}

/**
 * What the mentions name and no test has as a part of its name that ran, or was skipped as `known` lists it. A
 * file that is itself no test file, such as one of the contract, is called by
 * test files of its folder, so the tests of that folder count.
 */
export function mentionsNotRun(
  mentions: readonly Mention[],
  tests: readonly ReportedTest[],
  known: readonly KnownSkip[] = [],
): string[] {
  const ran = tests.filter((one) => one.hasRun || isListed(one, known));
  return mentions.flatMap(({ file, names }) => {
    const folder = file.slice(0, file.lastIndexOf("/") + 1);
    const candidates = ran.filter((one) =>
      file.endsWith(".test.ts") ? one.file === file : one.file.startsWith(folder),
    );
    if (names.length === 0) return candidates.length === 0 ? [file] : [];
    return names
      .filter((name) => !candidates.some((one) => matches(name, one.name)))
      .map((name) => `${file}: ${name}`);
  });
}

/** Whether a part of a test's source name, with its `%s` and `$name`, is a part of the name as it ran. */
export function matches(part: string, name: string): boolean {
  const texts = part
    .split(/%[a-z]|\$\w+/)
    .map((text) => text.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`));
  return new RegExp(texts.join(".+"), "s").test(name);
}
