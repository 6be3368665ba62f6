import { distance } from "fastest-levenshtein";
import type * as z from "zod";

type Issue = z.core.$ZodIssue;
/** Where a value is in a JSON text: names of fields and positions in lists. */
export type Place = readonly (string | number)[];

/** What is wrong with one field of an entry. */
export interface FieldFault {
  place: Place;
  /** A sentence without a full stop, which names the field. */
  message: string;
}

/** What each issue of a schema means, in our words. `entry` is the value that was checked, `known` has the names of its fields. */
export function fieldFaults(
  issues: readonly Issue[],
  entry: unknown,
  known: readonly string[],
): FieldFault[] {
  return issues.flatMap((issue) => {
    const place = issue.path.filter((part) => typeof part !== "symbol");
    if (issue.code === "unrecognized_keys") {
      return issue.keys.map((key) => {
        const next = place.length === 0 ? closest(key, known) : undefined;
        const hint = next === undefined ? "" : `; did you mean \`${next}\`?`;
        return { place: [...place, key], message: `unknown field \`${nameOf([...place, key])}\`${hint}` };
      });
    }
    return { place, message: sentence(issue, place, valueAt(entry, place)) };
  });
}

function sentence(issue: Issue, place: Place, value: unknown): string {
  const field = place.length === 0 ? "it" : `\`${nameOf(place)}\``;
  switch (issue.code) {
    case "invalid_type":
      if (value === undefined) return `${field} is missing`;
      return `${field} must be ${KINDS[issue.expected] ?? issue.expected}${repair(issue.expected, value)}`;
    case "too_small":
      if (issue.origin === "number" || issue.origin === "int")
        return `${field} must be at least ${issue.minimum}`;
      return `${field} must not be empty`;
    case "too_big":
      if (issue.origin === "number" || issue.origin === "int")
        return `${field} must be at most ${issue.maximum}`;
      return `${field} must have at most ${issue.maximum} ${issue.origin === "array" ? "entries" : "characters"}`;
    case "invalid_value":
      return `${field} must be one of ${issue.values.map(String).join(", ")}`;
    case "invalid_key":
      return `${field} ${issue.issues[0]?.message ?? "has a name that is not allowed"}`;
    default:
      return `${field} ${issue.message}`;
  }
}

const KINDS: Readonly<Record<string, string>> = {
  string: "a string",
  int: "a whole number",
  number: "a number",
  boolean: "true or false",
  array: "a list",
  object: "an object",
  record: "an object",
};

/** What to write instead, where that is clear. A string is not shown: it may be a secret. */
function repair(expected: string, value: unknown): string {
  if (expected === "string" && (typeof value === "number" || typeof value === "boolean")) {
    return `, but it is ${JSON.stringify(value)}: write ${JSON.stringify(String(value))}`;
  }
  if (typeof value === "string" && isJsonOf(expected, value)) return `: write ${value} without quotes`;
  if (value === null) return ", but it is null";
  const kind = KINDS[Array.isArray(value) ? "array" : typeof value];
  return kind === undefined || typeof value === "number"
    ? ""
    : `, but it is ${typeof value === "boolean" ? String(value) : kind}`;
}

function isJsonOf(expected: string, text: string): boolean {
  if (expected === "boolean") return text === "true" || text === "false";
  return (expected === "int" || expected === "number") && /^\d{1,15}$/.test(text);
}

/** As people write it: `params[0].type`. */
function nameOf(place: Place): string {
  return place
    .map((part, i) => (typeof part === "number" ? `[${part}]` : i === 0 ? part : `.${part}`))
    .join("");
}

function valueAt(value: unknown, place: Place): unknown {
  return place.reduce<unknown>(
    (at, part) => (at as Record<string | number, unknown> | null | undefined)?.[part],
    value,
  );
}

function closest(name: string, known: readonly string[]): string | undefined {
  return known.find((other) => distance(name, other) <= 2);
}
