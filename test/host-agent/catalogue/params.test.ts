import { describe, expect, test } from "vitest";

import { parseCatalogue } from "../../../host-agent/catalogue/recipes-file.ts";

function fileWith(...params: object[]): string {
  return JSON.stringify({
    recipes: [{ recipe_id: "a", title: "A", description: "a", command: ["true"], params }],
  });
}

describe("the parameters of a recipes file", () => {
  test.for([
    ["an unknown type", { name: "a", type: "date" }],
    ["a name that is none", { name: "a b", type: "string" }],
    ["a flag that is none", { name: "a", type: "string", flag: "a" }],
    ["an enum without values", { name: "a", type: "enum" }],
    ["an enum whose default is none of its values", { name: "a", type: "enum", enum: ["x"], default: "y" }],
    ["a value twice", { name: "a", type: "enum", enum: ["x", "x"] }],
    ["values of a string", { name: "a", type: "string", enum: ["x"] }],
    ["a pattern that is none", { name: "a", type: "string", pattern: "(" }],
    ["a pattern that is one only inside of others", { name: "a", type: "string", pattern: "a)(?:b" }],
    ["a pattern of a number", { name: "a", type: "number", pattern: "1" }],
    ["a minimum of a string", { name: "a", type: "string", minimum: 1 }],
    ["a minimum above the maximum", { name: "a", type: "integer", minimum: 2, maximum: 1 }],
    ["a default of another type", { name: "a", type: "integer", default: "1" }],
    ["a default out of range", { name: "a", type: "integer", minimum: 2, default: 1 }],
    ["a default that is never used", { name: "a", type: "integer", required: true, default: 1 }],
    ["a field that is not known", { name: "a", type: "string", regex: "x" }],
  ])("may not have %s", ([, param]) => {
    expect(() => parseCatalogue(fileWith(param as object), "/")).toThrow(/^recipe a, line 1: .*`params\[0\]/);
  });

  test("may not have a duplicate name or flag", () => {
    const a = { name: "a", type: "string" };
    expect(() => parseCatalogue(fileWith(a, a), "/")).toThrow("name a is a duplicate");
    expect(() => parseCatalogue(fileWith(a, { name: "b", flag: "--a", type: "string" }), "/")).toThrow(
      "flag --a is a duplicate",
    );
  });
});
