import { readFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";

const DOCUMENT = readFileSync(join(import.meta.dirname, "..", "docs", "guarantees.md"), "utf8");

/** The mentions of tests in the tables: a file, and the names in it, if it is not all of them. */
const mentions = DOCUMENT.split("\n")
  .filter((line) => line.startsWith("| ") && line.includes(".ts`"))
  .flatMap((line) => line.split(" | ")[1]!.replace(/ \|$/, "").split(" · "))
  .map((mention) => /^`(?<file>[^`]+\.ts)`(?:: (?<names>.+))?$/.exec(mention)?.groups ?? { file: mention });

test("the guarantees name tests that are there", () => {
  expect(mentions.length).toBeGreaterThan(40);
  for (const { file, names } of mentions) {
    if (file!.startsWith("found out")) continue;
    const text = readFileSync(join(import.meta.dirname, file!), "utf8");
    for (const name of names?.split("; ") ?? []) expect(text, file).toContain(name);
  }
});
