import { join } from "node:path";

import { type Hub } from "../support/hub.ts";

/** Names that every object of the language has. */
export const PROTOTYPE_NAMES = ["__proto__", "constructor", "toString", "hasOwnProperty"];

/** Texts that are no value of anything, by what is wrong with them. */
export function textForms({ root }: Hub, longest: number): [form: string, text: string][] {
  return [
    ["empty", ""],
    ["a blank", " "],
    ["too long", "x".repeat(longest)],
    ["a NUL", "a\0b"],
    ["a newline", "a\nb"],
    ["a newline at the end", "running\n"],
    ["CR and LF", "a\r\nset-cookie: b"],
    ["other letters", "日本語"],
    ["an emoji", "😀"],
    ["digits of another script", "１２"],
    ["a writing direction", "\u202ea"],
    ["dots", ".."],
    ["dots and a slash", "../x.sh"],
    ["encoded dots", "%2e%2e"],
    ["encoded dots and slash", "%2e%2e%2fx.sh"],
    ["dots and a backslash", "..\\x.sh"],
    ["dots inside", `${root}/../x.sh`],
    ["an absolute path", "/etc/passwd"],
    ["an absolute script", "/etc/profile.sh"],
    ["a link that leads out", join(root, "link.sh")],
    ["a folder's link that leads out", join(root, "folder")],
    ["a sibling of the same prefix", `${root}-evil/x.sh`],
    ["an open quote", "'a"],
    ["a last backslash", "a\\"],
    ...PROTOTYPE_NAMES.map((name): [string, string] => ["a name of the language", name]),
    ["a negative number", "-1"],
    ["a fraction", "1.5"],
    ["an exponent", "1e3"],
    ["a hexadecimal number", "0x10"],
    ["a huge number", "9".repeat(30)],
    ["no number", "NaN"],
    ["a list", "1,2"],
  ];
}

/** JSON that a body's field of this type cannot be. */
export const WRONG_TYPES: Record<string, string[]> = {
  string: ["null", "5", "-1", "1.5", "1e400", "true", "[]", '["x"]', "{}", '{"toString":"x"}'],
  boolean: ["null", "0", "1", "-1", "1.5", '""', '"true"', "[]", "[true]", "{}"],
  integer: [
    "null",
    "true",
    '""',
    '"10"',
    "[]",
    "[1]",
    "{}",
    "-1",
    "-0.5",
    "1.5",
    "9007199254740991",
    "1e308",
    "1e400",
  ],
  number: ["null", "true", '""', '"1.5"', "[]", "{}", "1e400"],
  object: ["null", "true", "5", '"x"', "[]", '["x"]'],
};

const only = (...forms: string[]) => new Set(forms);
/** Any text but these. */
const textBut = (...forms: string[]) => ({
  has: (form: string) => !/^(?:JSON .*|missing|twice|unknown)$/.test(form) && !forms.includes(form),
});
const CONTROLS = ["a NUL", "a newline", "a newline at the end", "CR and LF"];

/** The bad forms that a field takes all the same, because to it they are good ones. */
export const TAKES: Record<string, { has(form: string): boolean }> = {
  // The API document uses `?status=&limit=`.
  "query.status": only("empty"),
  "query.limit": only("empty"),
  "query.cursor": only("empty"),
  "query.path of GET /api/v1/scripts": only("empty"),
  "query.label": textBut(...CONTROLS, "too long"),
  "body.label": textBut(...CONTROLS, "too long", "empty", "half a character"),
  "body.args": textBut("a NUL", "too long", "half a character", "an open quote", "a last backslash"),
  "body.params.text": textBut("a NUL", "too long", "half a character"),
  "header.idempotency-key": textBut(
    "empty",
    "a blank",
    "too long",
    "other letters",
    "an emoji",
    "digits of another script",
    "a writing direction",
    "half a character",
  ),
  // A preference is no demand (RFC 7240), and an id that is not sane is replaced.
  "header.prefer": textBut(),
  "header.x-request-id": textBut(),
};

/** A recipe with a parameter of each type. */
export const RECIPE = {
  recipe_id: "typed",
  title: "Typed",
  description: "Takes parameters",
  command: ["/bin/true"],
  params: [
    { name: "text", type: "string" },
    { name: "word", type: "string", pattern: "[A-Z]{2}" },
    { name: "count", type: "integer", minimum: 0, maximum: 9 },
    { name: "ratio", type: "number", minimum: 0 },
    { name: "mode", type: "enum", enum: ["fast", "full"] },
    { name: "force", type: "boolean" },
  ],
};
