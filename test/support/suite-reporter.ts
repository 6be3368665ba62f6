import { readFileSync } from "node:fs";
import { join, relative } from "node:path";

import type { Reporter, TestCase, TestModule, Vitest } from "vitest/node";

import { KNOWN_SKIPS } from "./known-skips.ts";
import {
  italicsOf,
  mentionsNotRun,
  mentionsOf,
  type ReportedTest,
  skipLine,
  testFilesIn,
  unknownSkips,
} from "./suite-checks.ts";

/**
 * Ends a run with one line that names what was skipped, and why. With CI=true
 * a skip that test/support/known-skips.ts does not list makes the run fail. A
 * run of the whole suite also fails when docs/guarantees.md or docs/security.md
 * names a test that neither ran nor was skipped as listed.
 */
export function suiteReporter(): Reporter {
  let vitest: Vitest;
  return {
    onInit: (started) => void (vitest = started),
    onTestRunEnd(modules, _errors, reason) {
      if (reason === "interrupted") return;
      const { root, testNamePattern } = vitest.config;
      const tests = modules.flatMap((module) => [...testsOf(module, join(root, "test"))]);
      // What a filter leaves out is not skipped.
      if (testNamePattern !== undefined) return;
      const line = skipLine(tests);
      if (line !== undefined) vitest.logger.log(`\n${line}`);
      const faults = process.env["CI"] === "true" ? unknownSkips(tests, KNOWN_SKIPS).map(unlisted) : [];
      if (modules.length === testFilesIn(root).length) {
        faults.push(...notRun(root, tests));
      }
      for (const fault of faults) vitest.logger.error(fault);
      if (faults.length > 0) process.exitCode = 1;
    },
  };
}

function* testsOf(module: TestModule, folder: string): Iterable<ReportedTest> {
  const file = relative(folder, module.moduleId);
  for (const test of module.children.allTests()) {
    const result = test.result();
    yield {
      file,
      name: test.fullName,
      hasRun: result.state !== "skipped",
      reason: (result.state === "skipped" ? result.note : undefined) ?? skipReasonOf(test),
    };
  }
}

/** The reason of a test, or of the group around it. */
function skipReasonOf(test: TestCase): string | undefined {
  let at: TestCase | TestCase["parent"] = test;
  while (at.type !== "module") {
    const { skipReason } = at.meta();
    if (skipReason !== undefined) return skipReason;
    at = at.parent;
  }
  return undefined;
}

const unlisted = ({ file, name, reason }: ReportedTest) =>
  `${file} > ${name} was skipped (${reason ?? "no reason given"}): install what is missing, or add it to test/support/known-skips.ts`;

function notRun(root: string, tests: readonly ReportedTest[]): string[] {
  const read = (page: string) => readFileSync(join(root, "docs", page), "utf8");
  const security = italicsOf(read("security.md")).map((name) => ({
    file: "behaviour/security/",
    names: [name],
  }));
  return [
    ...mentionsNotRun(mentionsOf(read("guarantees.md")), tests, KNOWN_SKIPS).map(
      (what) => `docs/guarantees.md names a test that did not run: ${what}`,
    ),
    ...mentionsNotRun(security, tests, KNOWN_SKIPS).map(
      (what) => `docs/security.md names a test that did not run: ${what}`,
    ),
  ];
}
