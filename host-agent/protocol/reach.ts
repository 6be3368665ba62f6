import * as z from "zod";

import { MAX_PATH_LENGTH } from "./spec.ts";

/** The most patterns of one kind that a key may have. */
const MAX_PATTERNS = 100;
/** The longest reach as the edge sends it, in bytes: together with the longest path, a request stays below what an agent reads of its head. */
const MAX_REACH_BYTES = 4_096;
/** The characters of a recipe's id, and `*`. */
const RECIPE_PATTERN = /^[A-Za-z0-9*][A-Za-z0-9_.*-]{0,99}$/;
const CONTROL = /\p{Cc}/u;
/** What every script's name ends in. */
const SCRIPT_END = ".sh";

/** A recipe's id in which `*` matches any characters, also none. */
export const RecipePattern = z
  .string()
  .regex(
    RECIPE_PATTERN,
    "must be a recipe id of 1-100 letters, digits, dots, dashes or underscores, in which * matches any characters",
  );

/**
 * A script's real path in which `*` matches any characters of one segment, and the segment `**` any number of
 * segments. Every other character matches itself.
 */
export const ScriptPattern = z
  .string()
  .max(MAX_PATH_LENGTH, `must be at most ${MAX_PATH_LENGTH} characters`)
  .superRefine((pattern, context) => {
    const fault = faultOfScriptPattern(pattern);
    if (fault !== undefined) context.addIssue({ code: "custom", message: fault });
  });

function faultOfScriptPattern(pattern: string): string | undefined {
  if (!pattern.startsWith("/")) return "must be an absolute path";
  if (CONTROL.test(pattern) || !pattern.isWellFormed()) return "must not contain control characters";
  const segments = segmentsOf(pattern);
  if (segments.includes("")) return "must not have an empty segment (// or a slash at its end)";
  if (segments.some((segment) => segment === "." || segment === ".."))
    return "must not have . or .. as a segment";
  const joined = segments.find((segment) => segment !== ANY_DEPTH && segment.includes(ANY_DEPTH));
  if (joined !== undefined) return "must have ** as a whole segment, as in /srv/ops/**";
  const end = segments.at(-1)!.split("*").at(-1)!;
  if (end.endsWith(SCRIPT_END) || (segments.at(-1)!.includes("*") && SCRIPT_END.endsWith(end)))
    return undefined;
  return "matches no script, because scripts end in .sh; write /** at its end for all scripts below a folder";
}

/** The recipe ids that a key may see and launch. */
export const RecipePatterns = patternsOf(RecipePattern);
/** The real paths of the scripts that a key may see, read and launch. */
export const ScriptPatterns = patternsOf(ScriptPattern);

/** None at all would look like all: who wants that leaves the scopes of the surface out. */
function patternsOf(pattern: z.ZodType<string>) {
  return z
    .array(pattern)
    .min(1, "must have at least one pattern; a key that may use none needs no scope for them")
    .max(MAX_PATTERNS, `must have at most ${MAX_PATTERNS} patterns`);
}

/**
 * What a caller can reach. A part that is left out limits nothing; no reach at all is everything. Strict, because an agent that
 * passed over a part that it does not know would allow too much.
 */
export const Reach = z.strictObject({
  recipes: RecipePatterns.optional(),
  script_paths: ScriptPatterns.optional(),
  /** Only runs that were launched under this key's name. */
  key_name: z.string().min(1).max(200).optional(),
});
export type Reach = z.infer<typeof Reach>;

/** What of a run decides whether it is in reach. */
export interface ReachedRun {
  source: "pipeline" | "script";
  keyName: string;
  /** The id of its recipe, or the real path of its script; undefined where it was not recorded. */
  target: string | undefined;
}

/** True when this reach has this recipe. */
export function reachesRecipe(reach: Reach | undefined, recipeId: string): boolean {
  return reach?.recipes?.some((pattern) => matchesWords(pattern, recipeId)) ?? true;
}

/** True when this reach has the script at this real path. */
export function reachesScript(reach: Reach | undefined, path: string): boolean {
  return reach?.script_paths?.some((pattern) => matchesPath(pattern, path)) ?? true;
}

/** True when scripts in reach may be somewhere below this folder, or in it. */
export function reachesBelow(reach: Reach | undefined, folder: string): boolean {
  return reach?.script_paths?.some((pattern) => mayBeBelow(pattern, folder)) ?? true;
}

/** True when this reach has this run. One whose recipe or script was not recorded is in no reach that asks for it. */
export function reachesRun(reach: Reach | undefined, { source, keyName, target }: ReachedRun): boolean {
  if (reach === undefined) return true;
  if (reach.key_name !== undefined && reach.key_name !== keyName) return false;
  if (targetPatterns(reach, source) === undefined) return true;
  if (target === undefined) return false;
  return source === "pipeline" ? reachesRecipe(reach, target) : reachesScript(reach, target);
}

/** The patterns for what runs of this surface run; undefined when the reach does not limit it. */
export function targetPatterns(reach: Reach, source: ReachedRun["source"]): readonly string[] | undefined {
  return source === "pipeline" ? reach.recipes : reach.script_paths;
}

/** True when the two reach the same, pattern by pattern. */
export function isSameReach(one: Reach | undefined, other: Reach | undefined): boolean {
  return one === other || JSON.stringify(one) === JSON.stringify(other);
}

/** The characters of a pattern before its first `*`: all that it matches begins so. */
export function literalStart(pattern: string): string {
  return pattern.split("*", 1)[0]!;
}

/** A reach as one segment of a path (base64url of its JSON). */
export function encodeReach(reach: Reach): string {
  const bytes = new TextEncoder().encode(JSON.stringify(reach));
  const text = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  return text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** The reach of such a segment; undefined when it is not one that this program understands in all its parts. */
export function decodeReach(text: string): Reach | undefined {
  try {
    const bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (character) =>
      character.charCodeAt(0),
    );
    const json: unknown = JSON.parse(
      new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes),
    );
    return Reach.safeParse(json).data;
  } catch {
    return undefined;
  }
}

/** Why this reach cannot be sent to an agent; undefined when it can. */
export function faultOfSize(reach: Reach): string | undefined {
  const { length } = encodeReach(reach);
  return length <= MAX_REACH_BYTES
    ? undefined
    : `the patterns are too long together (${length} of ${MAX_REACH_BYTES} bytes as they are sent to the host); use fewer or shorter ones`;
}

/** Any number of segments. */
const ANY_DEPTH = "**";

function segmentsOf(path: string): string[] {
  return path.slice(1).split("/");
}

// Neither of the two goes back further than to the last `*`: whatever the pattern and the text, a match takes at most their lengths
// multiplied. A regular expression of the pattern would not promise that.

function matchesPath(pattern: string, path: string): boolean {
  return path.startsWith("/") && matches(segmentsOf(pattern), segmentsOf(path), ANY_DEPTH, matchesWords);
}

/** True when the text matches a pattern in which `*` matches any characters. */
function matchesWords(pattern: string, text: string): boolean {
  return matches(pattern, text, "*", (one, other) => one === other);
}

/** Matches item by item; `any` matches any number of items, where it is the last of several segments for at least one. */
function matches<P extends ArrayLike<string>>(
  pattern: P,
  text: P,
  any: string,
  isMatch: (one: string, other: string) => boolean,
): boolean {
  let at = 0;
  let star = -1;
  let from = 0;
  let i = 0;
  while (i < text.length) {
    const item = pattern[at];
    if (item === any) {
      star = at++;
      from = i;
    } else if (item !== undefined && isMatch(item, text[i]!)) {
      at++;
      i++;
    } else if (star >= 0) {
      at = star + 1;
      i = ++from;
    } else return false;
  }
  if (any === ANY_DEPTH) return at === pattern.length;
  while (pattern[at] === any) at++;
  return at === pattern.length;
}

function mayBeBelow(pattern: string, folder: string): boolean {
  const segments = segmentsOf(pattern);
  const parts = folder === "/" ? [] : segmentsOf(folder);
  for (const [i, part] of parts.entries()) {
    const segment = segments[i];
    if (segment === ANY_DEPTH) return true;
    if (segment === undefined || !matchesWords(segment, part)) return false;
  }
  return segments.length > parts.length;
}
