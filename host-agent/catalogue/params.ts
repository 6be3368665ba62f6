import * as z from "zod";

import { clipName } from "../protocol/clip.ts";
import { type FieldError, invalidFields } from "../protocol/problem.ts";
import {
  MAX_PARAM_LENGTH,
  type Param,
  ParamFlag,
  ParamName,
  ParamType,
  ParamValue,
} from "../protocol/recipe.ts";

/** A parameter in the recipes file. */
export const ParamEntry = z
  .strictObject({
    name: ParamName,
    flag: ParamFlag.optional(),
    type: ParamType,
    description: z.string().max(1_000).optional(),
    enum: z.array(z.string().min(1).max(MAX_PARAM_LENGTH)).min(1).max(200).optional(),
    default: ParamValue.optional(),
    required: z.boolean().default(false),
    pattern: z.string().max(1_000).optional(),
    minimum: z.number().optional(),
    maximum: z.number().optional(),
  })
  .transform((entry, context): RecipeParam => {
    const refuse = (field: string, message: string) =>
      context.addIssue({ code: "custom", path: [field], message });
    const { type, enum: values, minimum, maximum } = entry;
    const isNumeric = type === "integer" || type === "number";
    if ((type === "enum") !== (values !== undefined))
      refuse("enum", "is required for the type enum, and not allowed for another type");
    if (values && new Set(values).size < values.length) refuse("enum", "has a duplicate value");
    if (entry.pattern !== undefined && type !== "string") refuse("pattern", "is for the type string only");
    if (minimum !== undefined && !isNumeric) refuse("minimum", "is for the types integer and number only");
    if (maximum !== undefined && !isNumeric) refuse("maximum", "is for the types integer and number only");
    if (minimum !== undefined && maximum !== undefined && minimum > maximum) {
      refuse("minimum", "must not be greater than maximum");
    }
    if (entry.required && entry.default !== undefined) {
      refuse("default", "is never used for a required parameter");
    }
    const param = { ...entry, flag: entry.flag ?? `--${entry.name}`, regex: compile(entry.pattern) };
    if (param.regex === null) refuse("pattern", "is not a regular expression");
    else if (type === "enum" && values === undefined) return { ...param, regex: undefined };
    else if (entry.default !== undefined) {
      const fault = faultOf({ ...param, regex: param.regex }, entry.default);
      if (fault !== undefined) refuse("default", fault);
    }
    return { ...param, regex: param.regex ?? undefined };
  });

/** A parameter with its flag filled in and its pattern compiled, to match the whole of a value. */
export interface RecipeParam extends Omit<
  Param,
  "description" | "enum" | "default" | "pattern" | "minimum" | "maximum"
> {
  description?: string | undefined;
  enum?: string[] | undefined;
  default?: ParamValue | undefined;
  pattern?: string | undefined;
  minimum?: number | undefined;
  maximum?: number | undefined;
  regex: RegExp | undefined;
}

/** The first name or flag that two parameters share, as a sentence; undefined when all differ. */
export function repeatedParam(params: readonly RecipeParam[]): string | undefined {
  for (const field of ["name", "flag"] as const) {
    const repeated = params.find((param, i) => params.findIndex((p) => p[field] === param[field]) < i);
    if (repeated) return `${field} ${repeated[field]} is a duplicate`;
  }
  return undefined;
}

/** A parameter as clients see it. */
export function publicParam({ regex: _regex, ...param }: RecipeParam): Param {
  const known = Object.entries(param).filter(([, value]) => value !== undefined);
  return Object.fromEntries(known) as unknown as Param;
}

/**
 * The words that these values become, in the recipe's order, defaults included.
 * Throws `invalid_request` that names every parameter in which something is wrong.
 */
export function paramWords(
  params: readonly RecipeParam[],
  given: Readonly<Record<string, ParamValue>> = {},
): string[] {
  const known = new Set(params.map(({ name }) => name));
  const unknown = Object.keys(given).filter((name) => !known.has(name));
  const message = unknown.length === 0 ? "" : `unknown parameter; ${describeParams(params)}`;
  const errors: FieldError[] = unknown.map((name) => ({ path: `params.${clipName(name)}`, message }));
  const words = params.flatMap((param) => {
    const isGiven = Object.hasOwn(given, param.name);
    const value = isGiven ? given[param.name] : param.default;
    const fault = value === undefined ? (param.required ? "is missing" : undefined) : faultOf(param, value);
    if (fault !== undefined) errors.push({ path: `params.${param.name}`, message: fault });
    return value === undefined ? [] : wordsOf(param, value);
  });
  if (errors.length === 0) return words;
  throw invalidFields(errors);
}

/** What is wrong with a value, in words that follow the parameter's name; undefined for a valid value. */
function faultOf(param: RecipeParam, value: ParamValue): string | undefined {
  const { type } = param;
  if (type === "boolean") return typeof value === "boolean" ? undefined : "must be true or false";
  if (type === "enum")
    return param.enum!.includes(value as string) ? undefined : `must be one of ${param.enum!.join(", ")}`;
  if (type === "string") return typeof value === "string" ? textFault(param, value) : "must be a string";
  const isNumber = type === "integer" ? Number.isSafeInteger(value) : Number.isFinite(value);
  if (isNumber) return rangeFault(param, value as number);
  return type === "integer" ? "must be a whole number" : "must be a number";
}

function rangeFault({ minimum, maximum }: RecipeParam, value: number): string | undefined {
  if (minimum !== undefined && value < minimum) return `must be at least ${minimum}`;
  if (maximum !== undefined && value > maximum) return `must be at most ${maximum}`;
  return undefined;
}

function textFault({ pattern, regex }: RecipeParam, value: string): string | undefined {
  // Before the pattern, which may take long on a long text.
  if (value.length > MAX_PARAM_LENGTH) return `must be at most ${MAX_PARAM_LENGTH} characters`;
  if (value.includes("\0")) return "must not contain a NUL character";
  return regex === undefined || regex.test(value) ? undefined : `must match ${pattern}`;
}

/**
 * The words of one value. A value that begins with a dash is joined to its flag, as
 * getopt(3) reads it: as a separate word the program would take it for an option.
 */
function wordsOf({ flag }: RecipeParam, value: ParamValue): string[] {
  if (value === true) return [flag];
  if (value === false) return [];
  const word = String(value);
  if (!word.startsWith("-")) return [flag, word];
  return [/^-[^-]$/.test(flag) ? `${flag}${word}` : `${flag}=${word}`];
}

function describeParams(params: readonly RecipeParam[]): string {
  return params.length === 0
    ? "this recipe has no parameters"
    : `this recipe has ${params.map(({ name }) => name).join(", ")}`;
}

/** Null when the pattern is not a regular expression. */
function compile(pattern: string | undefined): RegExp | undefined | null {
  if (pattern === undefined) return undefined;
  try {
    // Alone first: `a)(b` would become valid inside the group.
    void new RegExp(pattern, "u");
    return new RegExp(`^(?:${pattern})$`, "u");
  } catch {
    return null;
  }
}
