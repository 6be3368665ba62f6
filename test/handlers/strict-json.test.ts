import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

import { parseJsonText } from "../../handlers/strict-json.ts";

describe("strict JSON", () => {
  test("is parsed as by JSON.parse, except for duplicate names and lone surrogates", () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        expect(parseJsonText(text)).toEqual(JSON.parse(text));
      }),
      { numRuns: 300 },
    );
  });

  test.for([
    ['{"a":1,"b":{"c":[1,{"d":1,"d":2}]}}', "body.b.c.1.d: is given more than once"],
    ['{"a":1,"\\u0061":2}', "body.a: is given more than once"],
    ['{"__proto__":1,"__proto__":1}', "body.__proto__: is given more than once"],
    ['[{"a":"\\ud83d"}]', "body.0.a: must be well-formed Unicode"],
    ['{"a":"\\ude00\\ud83d"}', "body.a: must be well-formed Unicode"],
    ['{"\\ud83d":1}', "body.?: the name of a field must be well-formed Unicode"],
  ])("refuses %s: %s", ([text, detail]) => {
    expect(() => parseJsonText(text!)).toThrow(detail);
  });

  test("accepts one name in several objects, and escaped surrogate pairs", () => {
    const text = String.raw`{"a":{"a":"\ud83d\ude00"},"b":[{"a":"\\ud800"},{"a":"}{,\"a\":"}]}`;
    expect(parseJsonText(text)).toEqual(JSON.parse(text));
  });
});
