import { distance } from "fastest-levenshtein";
import * as z from "zod";

import { withoutByteOrderMark } from "../host-agent/protocol/byte-order-mark.ts";
import { ALL_SCOPES, type Digest, type KeyEntry, type KeyRing, SCOPES } from "./auth.ts";
import { jsonFault } from "../host-agent/protocol/json-fault.ts";
import { faultOfSize, type Reach, RecipePatterns, ScriptPatterns } from "../host-agent/protocol/reach.ts";
import { AmbiguousJson, parseStrictJson } from "../host-agent/protocol/strict-json.ts";
import { fieldMessage } from "./validate.ts";

const SHA256_HEX = /^[0-9a-f]{64}$/;
/** The name of a key, which records and logs show: printable, on one line. */
export const KeyName = z
  .string()
  .min(1)
  .max(100)
  .regex(/^[^\p{C}\p{Z}](?:[^\p{C}\p{Zl}\p{Zp}]*[^\p{C}\p{Z}])?$/u, "must be printable, on one line")
  .refine(
    (name) => !RESERVED_NAMES.has(skeletonOf(name)),
    "must not be dev or public, the names of callers without a key",
  )
  .refine(
    (name) => !(/\p{Script=Latin}/u.test(name) && /[\p{Script=Cyrillic}\p{Script=Greek}]/u.test(name)),
    "must not mix Latin letters with Cyrillic or Greek ones, which look the same",
  );
/** What records and logs show of requests without a key. */
const RESERVED_NAMES = new Set(["dev", "public"]);

/** The same for names that people take for one: compatibility forms, case, blanks and invisible marks do not count. */
function skeletonOf(name: string): string {
  return name
    .normalize("NFKD")
    .toLowerCase()
    .replaceAll(/[\p{M}\p{Z}]/gu, "");
}

/** A scope as the keys file has it. */
export const ScopeName = z.enum(
  [...SCOPES, ALL_SCOPES],
  `must be one of ${[...SCOPES, ALL_SCOPES].join(", ")}`,
);
/** The key in the examples of the API document and the README: it is public. */
const SAMPLE_KEY = "sk_live_LONG_RANDOM_STRING";
const HOW_TO_MAKE = "Create one with `npm run keys -- create`";
const SecretKey = z
  .string()
  .regex(/^[\x21-\x7e]{1,512}$/, "must be 1-512 printable ASCII characters without spaces")
  .min(16, `must have at least 16 characters, or it can be guessed. ${HOW_TO_MAKE}`)
  .refine((key) => key !== SAMPLE_KEY, `must not be the sample key of the documentation. ${HOW_TO_MAKE}`);
/** A day, or a time with its offset. A key with a day is good until the day's end in UTC. */
const Expiry = z.union([z.iso.date(), z.iso.datetime({ offset: true })], {
  error: "must be a date such as 2027-05-15, or 2027-05-15T12:00:00Z",
});

/** One key of the keys file, with either `key` or `key_sha256`. */
export const KeyFileEntry = z
  .looseObject({
    name: KeyName,
    key: SecretKey.optional(),
    key_sha256: z.string().regex(SHA256_HEX, "must be 64 lower-case hex digits").optional(),
    scopes: z.array(ScopeName).min(1),
    created: z.string().optional(),
    expires: Expiry.optional(),
    recipes: RecipePatterns.optional(),
    script_paths: ScriptPatterns.optional(),
    runs: z.enum(["own", "all"], "must be own or all").optional(),
    limits: z
      .undefined("this version has no limits of keys, and would not enforce these; remove them")
      .optional(),
  })
  .superRefine((entry, context) => {
    for (const name of Object.keys(entry)) {
      const meant = misspelt(name);
      if (meant !== undefined) {
        context.addIssue({ code: "custom", message: `unknown field ${name}; did you mean ${meant}?` });
      }
    }
    const reach = reachOf(entry);
    const fault = reach && faultOfSize(reach);
    if (fault !== undefined) context.addIssue({ code: "custom", message: fault });
  })
  .refine((entry) => (entry.key === undefined) !== (entry.key_sha256 === undefined), {
    error: "must have either key or key_sha256",
  });
export type KeyFileEntry = z.infer<typeof KeyFileEntry>;

/**
 * The field that was probably meant by this unknown one. A key whose `expires` is misspelt would never expire, and one whose `recipes`
 * is misspelt would reach them all. A short name is no mistake for another short one: `note` is two edits from `name`.
 */
function misspelt(name: string): string | undefined {
  if (KNOWN_FIELDS.includes(name)) return undefined;
  const [, meant] = BEGINNINGS.find(([beginning]) => beginning.test(name)) ?? [];
  if (meant !== undefined) return meant;
  return KNOWN_FIELDS.find((known) => known.length > 4 && distance(name.toLowerCase(), known) <= 2);
}

const KNOWN_FIELDS = [
  "name",
  "key",
  "key_sha256",
  "scopes",
  "created",
  "expires",
  "recipes",
  "script_paths",
  "runs",
  "limits",
];
/** What nobody writes who does not mean the field. */
const BEGINNINGS: readonly (readonly [RegExp, string])[] = [
  [/^_?exp[a-z_]{0,10}$/i, "expires"],
  [/^_?recipe/i, "recipes"],
  [/^_?(?:script|path)/i, "script_paths"],
  [/^_?(?:run|own_|only_)/i, "runs"],
];

/** The keys file. */
export const KeysFile = z.looseObject({ keys: z.array(KeyFileEntry) });
export type KeysFile = z.infer<typeof KeysFile>;

/**
 * The key ring of a keys file's text. Throws an Error whose message names the
 * fault and its place, and never contains a key.
 */
export async function parseKeys(text: string, digest: Digest): Promise<KeyRing> {
  const { keys: entries } = parseKeysFile(text);
  if (entries.length === 0) return { mode: "dev" };
  refuseConfusable(entries);
  const keys = new Map<string, KeyEntry>();
  for (const [index, entry] of entries.entries()) {
    const sha256 = entry.key_sha256 ?? (await digest(entry.key!));
    if (keys.has(sha256)) throw new Error(`keys.${index}: duplicate key`);
    const reach = reachOf(entry);
    const { name, scopes } = entry;
    keys.set(sha256, { name, scopes, expiresAt: expiryTime(entry.expires), ...(reach && { reach }) });
  }
  const warnings = unknownFields(entries);
  return { mode: "enforced", keys, ...(warnings.length > 0 && { warnings }) };
}

/** What a key of this entry can reach; undefined for everything. */
export function reachOf({
  name,
  recipes,
  script_paths,
  runs,
}: Pick<KeyFileEntry, "name" | "recipes" | "script_paths" | "runs">): Reach | undefined {
  const reach: Reach = {
    ...(recipes && !recipes.includes("*") && { recipes }),
    ...(script_paths && !script_paths.includes("/**") && { script_paths }),
    ...(runs === "own" && { key_name: name }),
  };
  return Object.keys(reach).length === 0 ? undefined : reach;
}

/** The fields that nothing reads, a sentence for each. They are no part of a key: one that was meant to limit it does not. */
function unknownFields(entries: readonly KeyFileEntry[]): string[] {
  return entries.flatMap((entry, index) =>
    Object.keys(entry)
      .filter((name) => !KNOWN_FIELDS.includes(name))
      .map((name) => `keys.${index} (${entry.name}): the field ${shown(name)} is unknown and has no effect`),
  );
}

/** Of what is no short name only that it is one: it could be a part of a key. */
function shown(name: string): string {
  return SHOWN_NAME.test(name) ? name : "with a long or unusual name";
}

/** Keys of one name are one client's. Keys of two names that look the same would be two clients in one record. */
function refuseConfusable(entries: readonly KeyFileEntry[]): void {
  const known = new Map<string, string>();
  for (const [index, { name }] of entries.entries()) {
    const skeleton = skeletonOf(name);
    const other = known.get(skeleton) ?? name;
    if (other !== name) {
      throw new Error(
        `keys.${index}.name: ${JSON.stringify(name)} looks like the name ${JSON.stringify(other)}; change one of them`,
      );
    }
    known.set(skeleton, name);
  }
}

/** The keys file's text as data. Throws the same errors as parseKeys. */
export function parseKeysFile(text: string): KeysFile {
  let json: unknown;
  let fault: string | undefined;
  const plain = withoutByteOrderMark(text);
  try {
    json = parseStrictJson(plain);
  } catch (error) {
    fault = faultOf(error as Error, plain);
  }
  if (fault !== undefined) throw new Error(fault);
  const parsed = KeysFile.safeParse(json, { error: fieldMessage });
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map(
    ({ path, message }) => `${path.join(".") || "the file"}: ${message}`,
  );
  throw new Error(faults.join("; "));
}

/** Shorter than the shortest key: a name of this form can be shown. */
const SHOWN_NAME = /^\w{1,15}$/;

function faultOf(error: Error, text: string): string {
  if (!(error instanceof AmbiguousJson)) return jsonFault(error, text);
  const path = error.path.map((name) => (SHOWN_NAME.test(name) ? name : "?"));
  return `${path.join(".")}: ${error.fault}`;
}

const DAY_MS = 86_400_000;

/** When a key with this `expires` expires, in epoch milliseconds; undefined for never. */
export function expiryTime(expires: string | undefined): number | undefined {
  if (expires === undefined) return undefined;
  const isDay = expires.length === "2026-05-15".length;
  return Date.parse(expires) + (isDay ? DAY_MS : 0);
}
