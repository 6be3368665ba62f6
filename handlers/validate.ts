import type * as z from "zod";

import { clipName } from "../host-agent/protocol/clip.ts";
import type { FieldError } from "../host-agent/protocol/problem.ts";

/** Where a part of a request is; the path of each of its fields begins with it. */
export type Place = "path" | "query" | "body";

/**
 * Parses one part of a request. Returns undefined, and adds to `errors`, when a
 * field is invalid: the caller reports the errors of all parts together.
 */
export function parse(
  place: Place,
  schema: z.ZodType | undefined,
  value: unknown,
  errors: FieldError[],
): unknown {
  if (!schema) {
    // A query parameter that has no effect is probably a typing error.
    if (place === "query") refuseNames([place], Object.keys(value as object), errors);
    return undefined;
  }
  const parsed = schema.safeParse(value, { error: fieldMessage });
  if (parsed.success) return parsed.data;
  for (const issue of parsed.error.issues) {
    const path = [place, ...issue.path];
    if (issue.code === "unrecognized_keys") refuseNames(path, issue.keys, errors);
    else errors.push({ path: path.join("."), message: issue.message });
  }
  return undefined;
}

function refuseNames(path: PropertyKey[], names: readonly string[], errors: FieldError[]): void {
  for (const name of names) {
    errors.push({ path: [...path, clipName(name)].join("."), message: "unknown field" });
  }
}

/** The query of a URL. Adds to `errors` each parameter that is given more than once. */
export function queryObject(url: string, errors: FieldError[]): Record<string, string> {
  const query: Record<string, string> = Object.create(null);
  if (!url.includes("?")) return query;
  for (const [name, value] of new URL(url).searchParams) {
    if (name in query) errors.push({ path: `query.${clipName(name)}`, message: "is given more than once" });
    query[name] = value;
  }
  return query;
}

/** What follows `must be` for each type of a schema. */
const TYPES: Record<string, string> = {
  string: "a string",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  array: "an array",
  object: "a JSON object",
  record: "a JSON object",
};

/**
 * What is wrong with a field, in words that follow its name, for a schema without
 * its own message: `must be at most 3600`. Undefined leaves the message to zod.
 */
export function fieldMessage(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.input === undefined) return "is missing";
  switch (issue.code) {
    case "invalid_type":
      return `must be ${TYPES[issue.expected] ?? issue.expected}`;
    case "invalid_value":
      return `must be one of ${issue.values.map(String).join(", ")}`;
    case "too_small":
      return `must be at least ${issue.minimum}`;
    case "too_big":
      return `must be at most ${issue.maximum}`;
    default:
      return undefined;
  }
}
