import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";

import { italicsOf, mentionsOf } from "../support/suite-checks.ts";

// The names are looked for in the files' text. That each of these tests runs is checked at the end of a whole run:
// test/support/suite-reporter.ts.
const PROJECT = join(import.meta.dirname, "..", "..");
const SECURITY = join(PROJECT, "test", "behaviour", "security");

const readPage = (name: string) => readFileSync(join(PROJECT, "docs", name), "utf8");

test("docs/guarantees.md names tests that exist", () => {
  const mentions = mentionsOf(readPage("guarantees.md"));
  expect(mentions.length).toBeGreaterThan(40);
  for (const { file, names } of mentions) {
    const text = readFileSync(join(PROJECT, "test", file), "utf8");
    for (const name of names) expect(text, file).toContain(name);
  }
});

test("docs/security.md names tests that exist", () => {
  const page = readPage("security.md");
  const names = italicsOf(page);
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
