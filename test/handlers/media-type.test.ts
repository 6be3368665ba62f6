import { expect, test } from "vitest";

import { parseMediaType, qualityOf } from "../../handlers/media-type.ts";

test.for([
  ["application/json", {}],
  ["Application/JSON ; Charset=UTF-8", { charset: "UTF-8" }],
  ["application/json;", {}],
  ["application/json ; ;charset=utf8;; ", { charset: "utf8" }],
  ['application/json;a="b;c=d,\\"e";charset="utf-8"', { a: 'b;c=d,"e', charset: "utf-8" }],
] as const)("%s is application/json with its parameters", ([text, parameters]) => {
  const parsed = parseMediaType(text)!;
  expect({ ...parsed, parameters: Object.fromEntries(parsed.parameters) }).toEqual({
    type: "application/json",
    parameters,
  });
});

test.for([
  "",
  "json",
  "application/json charset=utf-8",
  "application/json;charset",
  'a/b;c="d',
  "a/b, c/d",
  "a/ b",
])("%s is no media type", (text) => {
  expect(parseMediaType(text)).toBeUndefined();
});

test.for([
  ["text/plain", 1],
  ["text/plain;q=0", 0],
  ["text/plain;q=0.5, text/*;q=0.9", 0.5],
  ["text/*;q=0.9, */*;q=0.1", 0.9],
  ["application/json, */*;q=0.1", 0.1],
  ["text/plain;format=flowed;Q=0.3", 0.3],
  ["text/plain;q=2", 0],
  ["image/png", 0],
  ["", 0],
] as const)("%s wants text/plain by its quality", ([accept, quality]) => {
  expect(qualityOf(accept, "text/plain")).toBe(quality);
});

test("a hostile header is judged in linear time", () => {
  const hostile = [
    `a/b${"; ".repeat(2_000)}\0`,
    `a/b${' ;a="'.repeat(800)}`,
    "a/b;".repeat(999),
    '"'.repeat(4_000),
  ];
  const startedAt = performance.now();
  for (const text of hostile) {
    parseMediaType(text);
    qualityOf(text, "text/plain");
  }
  expect(performance.now() - startedAt).toBeLessThan(2_000);
});
