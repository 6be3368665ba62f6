import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

/** A place where a text uses a banned idiom, and what to write instead. */
export interface WordHit {
  /** The file as it was named or found, with the line where the idiom starts: `docs/cli.md:12`. */
  place: string;
  found: string;
  better: string;
}

const READ = /\.(?:tsx?|js|sh|md|json|service|toml|html)$/;
const LEFT_OUT =
  /(?:^|\/)(?:node_modules|\.git|dist|generated|coverage|package-lock\.json|host-agent\/recipes\/data|test\/docs\/(?:plain-)?words\S*)$/;
const NOUNS =
  "number|whole number|file|regular file|folder|directory|socket|program|regular expression|script|recipe|path|URL|user|key|log|JSON|string|text|terminal|name|process|date|time|address|host|run|object|list";

/**
 * Each idiom as the source of a regular expression, next to the plain words for it. It matches whole words in any case, and a space
 * in it also matches a line break with the signs that begin a line of a comment.
 */
const IDIOMS: readonly (readonly [idiom: string, better: string])[] = [
  ["mend(?:s|ed|ing)?", "fix"],
  ["anew", "again"],
  ["besides?", "next to, in addition to, compared with"],
  ["so many", "a number of, or the number itself"],
  ["(?:lie|lies|lay|lying) (?:in|behind|below|under|within|on)", "is in, is under, is on"],
  ["whoever|whatever it|wherever", "anyone who, what, every place where"],
  ["(?:give|gives|gave|given|giving) up", "stops retrying, abandoned, trade-off"],
  ["(?:is|are|was|were|be|been|being) told|told of|tells? of|(?:is|are) to hear", "is reported, receives"],
  ["says? so|said so", "reports it"],
  [
    "(?:stand|stands|stood|standing) (?:there|in|at|behind|beside|for)(?! twice)",
    "is in, is, means, duplicate",
  ],
  [
    "(?:is|are|was|were|be|been) (?:not |still |already )?there(?! (?:an?|any|no|one)\\b)",
    "exists, does not exist, was not found",
  ],
  ["(?:stand|stands|named|given|listed) (?:there )?twice", "duplicate"],
  ["known here", "unknown (not known here), known"],
  ["who asks|who is asked|whom it asks", "the caller, the client"],
  ["at one go", "at once"],
  ["by turns", "alternately"],
  [`(?<!there )(?:is|are|was|were) no (?:${NOUNS})s?`, "is not a ..."],
  ["that may be run", "executable, allowed"],
  ["shrugs? off|shrugged off", "ignores"],
  ["puts? up with", "tolerates"],
  ["dear", "expensive"],
  ["hands? over|handed over|handing over", "passes"],
  ["goes by", "uses, follows"],
  ["(?:tell|tells|told|telling) apart", "distinguish"],
  ["here and there", "in some places"],
  ["on its way", "being sent, in progress"],
  ["in its turn", "then"],
  ["at hand", "available"],
  ["in vain", "without effect"],
  // Not "at the end of its own process".
  [
    "of its own(?! (?!(?:and|or|but|that|which|who|in|on|for|to|with|from|is|are|was|at|by|when|where|while|so|as)\\b)\\w)",
    "its own, separate",
  ],
  ["for ever", "forever"],
  ["as yet", "so far"],
  ["(?:hold|holds|held|holding) up", "delay, block"],
  ["(?:look|looks|looked|looking) after", "supervise"],
  ["(?:take|takes|taken|took|taking) up", "recover, adopt, use"],
  // A promise settles: that is its own term.
  [
    "(?<!promises? |promise that |until it |never )(?:settle|settles|settled|settling)(?! promise)",
    "reconcile",
  ],
  [
    "(?:no|more|enough|have|has|make|makes|leave|leaves|leaving|find|finds|is) room|room (?:for|left|is|was|again)",
    "capacity, limit, admission",
  ],
  ["npx hub", "hub (the other would download a stranger's package)"],
];

const GAP = String.raw`(?:[ \t]+|[ \t]*\n[ \t]*(?:\*|//|#|>)?[ \t]*)`;
const RULES = IDIOMS.map(([idiom, better]) => ({
  pattern: new RegExp(`(?<![\\w-])(?:${idiom.replaceAll(" ", GAP)})(?![\\w-])`, "giu"),
  better,
}));
const backwards = (word: string) => word.split("").toReversed().join("");
/** The folders of the machine that a change was written on, spelled backwards so that this file does not name them. */
const WORKPLACE = {
  pattern: new RegExp(`(?<![\\w.~}-])/(?:${["krow", "mraf"].map(backwards).join("|")})(?![\\w-])`, "g"),
  better: "a path that every machine has",
};

/** The banned idioms in a text, in the order of their places. */
export function findIdioms(name: string, text: string): WordHit[] {
  return [...RULES, WORKPLACE]
    .flatMap(({ pattern, better }) =>
      [...text.matchAll(pattern)].map((match) => ({ at: match.index, found: match[0], better })),
    )
    .toSorted((a, b) => a.at - b.at)
    .map(({ at, found, better }) => ({
      place: `${name}:${text.slice(0, at).split("\n").length}`,
      found: found.replaceAll(/\s+/g, " "),
      better,
    }));
}

/** The files under a path, or the path itself when it is a file, that people read and this project wrote. */
export function readableFiles(path: string): string[] {
  if (LEFT_OUT.test(path)) return [];
  if (!statSync(path).isDirectory()) return READ.test(path) ? [path] : [];
  return readdirSync(path)
    .toSorted()
    .flatMap((name) => readableFiles(path === "." ? name : join(path, name)));
}

/** The banned idioms in every readable file under these paths. */
export function findIdiomsUnder(paths: readonly string[]): WordHit[] {
  return paths.flatMap(readableFiles).flatMap((path) => findIdioms(path, readFileSync(path, "utf8")));
}
