import * as fc from "fast-check";
import { expect, test } from "vitest";

import { jsonStringOf } from "../../../adapters/node/json-string.ts";

const text = (bytes: Uint8Array | undefined) => bytes && new TextDecoder().decode(bytes);

test("a log page as a JSON string has the same bytes as JSON.stringify makes of any text", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 200 }), (value) => {
      expect(text(jsonStringOf(new TextEncoder().encode(value)))).toBe(JSON.stringify(value));
    }),
    { numRuns: 300 },
  );
  const every = Array.from({ length: 0x3_00 }, (_, code) => String.fromCharCode(code)).join("");
  const marks = `\u{feff}${every}\u{2028}\u{2029}\u{fffd}\u{10ffff}`;
  expect(text(jsonStringOf(new TextEncoder().encode(marks)))).toBe(JSON.stringify(marks));
});

test("a part of a larger buffer becomes the JSON string of that part only", () => {
  const bytes = new TextEncoder().encode('secret"é✓"secret');
  expect(text(jsonStringOf(bytes.subarray(6, bytes.length - 6)))).toBe(JSON.stringify('"é✓"'));
});

test("bytes that are not UTF-8 are not made a JSON string", () => {
  for (const bytes of [[0xff], [0xc3], [0xed, 0xa0, 0x80], [0xc0, 0x80], [0xf4, 0x90, 0x80, 0x80]]) {
    expect(jsonStringOf(Uint8Array.from(bytes)), String(bytes)).toBeUndefined();
  }
});
