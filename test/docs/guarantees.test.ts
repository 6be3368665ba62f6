import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";

const PROJECT = join(import.meta.dirname, "..", "..");
const SECURITY = join(PROJECT, "test", "behaviour", "security");
const DOCUMENT = readFileSync(join(PROJECT, "docs", "guarantees.md"), "utf8");

/** The mentions of tests in the tables: a file, and the names in it, if it is not all of them. */
const mentions = DOCUMENT.split("\n")
  .filter((line) => line.startsWith("| ") && line.includes(".ts`"))
  .flatMap((line) => line.split(" | ")[1]!.replace(/ \|$/, "").split(" · "))
  .map((mention) => /^`(?<file>[^`]+\.ts)`(?:: (?<names>.+))?$/.exec(mention)?.groups ?? { file: mention });

test("the guarantees name tests that are there", () => {
  expect(mentions.length).toBeGreaterThan(40);
  for (const { file, names } of mentions) {
    const text = readFileSync(join(PROJECT, "test", file!), "utf8");
    for (const name of names?.split("; ") ?? []) expect(text, file).toContain(name);
  }
});

test("the page on security names tests that are there", () => {
  const page = readFileSync(join(PROJECT, "docs", "security.md"), "utf8").replaceAll("\n", " ");
  const names = [...page.matchAll(/(?<!\*)\*(?<name>[^*]+)\*(?!\*)/g)].map(({ groups }) => groups!["name"]!);
  const texts = readdirSync(SECURITY).map((file) => readFileSync(join(SECURITY, file), "utf8"));
  expect(names.length).toBeGreaterThan(20);
  for (const name of names)
    expect(
      texts.some((text) => text.includes(name)),
      name,
    ).toBe(true);
  for (const [file] of page.matchAll(/\b[\w-]+(?:\/[\w-]+)*\.test\.ts/g)) {
    const isThere = [join(PROJECT, file), join(SECURITY, file)].some((path) => existsSync(path));
    expect(isThere, file).toBe(true);
  }
});
