import { fileURLToPath } from "node:url";

import { describe, expect, test } from "vitest";

import { findIdioms, findIdiomsUnder } from "./plain-words.ts";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));

describe("plain words", () => {
  test("no source, message, comment or page uses a banned idiom, a path of the workplace or npx for hub", () => {
    const hits = findIdiomsUnder([PROJECT]).map(
      ({ place, found, better }) => `${place.slice(PROJECT.length)}: "${found}" -> ${better}`,
    );

    expect(hits.length, hits.join("\n")).toBe(0);
  });

  test.for([
    "which is not there",
    "It lies in proc",
    "the recipe stands there twice",
    "the agent is told",
    "so\n * many runs",
    "it is no number",
    "a folder of its own, with a log",
    "in a process of its own that ends",
    "A gave up after 3",
    "there is no room for it",
    "run npx hub runs",
    `cd ${["", "krow".split("").toReversed().join(""), "main"].join("/")}`,
  ])("the check finds the idiom in %j", (text) => {
    expect(findIdioms("a.md", text)).toHaveLength(1);
  });

  test.for([
    "the upside of it",
    "there is no file",
    "there is nothing to amend",
    "the bedroom and a chat room",
    "await Promise.allSettled(runs)",
    "the promise settles",
    "runs the program twice",
    "the CPU time of its own process",
    "in ~/work or https://host/network",
    "Is there a key?",
  ])("the check lets plain English pass: %j", (text) => {
    expect(findIdioms("a.md", text)).toEqual([]);
  });
});
