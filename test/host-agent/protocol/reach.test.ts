import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

import {
  decodeReach,
  encodeReach,
  faultOfSize,
  literalStart,
  Reach,
  reachesBelow,
  reachesRecipe,
  reachesRun,
  reachesScript,
  RecipePattern,
  ScriptPattern,
} from "../../../host-agent/protocol/reach.ts";

const recipes = (...patterns: string[]): Reach => ({ recipes: patterns });
const scripts = (...patterns: string[]): Reach => ({ script_paths: patterns });

describe("a pattern of recipes", () => {
  test.for<[string, string[], string[]]>([
    ["nightly_*", ["nightly_", "nightly_a", "nightly_a.b-c"], ["nightly", "Nightly_a", "a_nightly_a"]],
    ["*", ["a", "nightly_a"], []],
    ["a*b*c", ["abc", "aXbYc", "abcbc"], ["abcb", "acb", "xabc"]],
    ["build", ["build"], ["builds", "buil", "a_build"]],
    ["a.c", ["a.c"], ["abc"]],
  ])("%s matches %o and not %o", ([pattern, matching, others]) => {
    for (const id of matching) expect(reachesRecipe(recipes(pattern), id), id).toBe(true);
    for (const id of others) expect(reachesRecipe(recipes(pattern), id), id).toBe(false);
  });

  test.for(["", "a b", "a/b", "nightly_[ab]", "a?", "_a", "a\n", "x".repeat(101), "a%"])(
    "%j is refused",
    (pattern) => {
      expect(RecipePattern.safeParse(pattern).success).toBe(false);
    },
  );
});

describe("a pattern of script paths", () => {
  test.for<[string, string[], string[]]>([
    [
      "/srv/ops/**",
      ["/srv/ops/a.sh", "/srv/ops/a/b.sh", "/srv/ops/.hidden/b.sh"],
      ["/srv/ops", "/srv/ops2/a.sh", "/srv/opsa.sh", "/x/srv/ops/a.sh", "srv/ops/a.sh"],
    ],
    ["/srv/*/run.sh", ["/srv/a/run.sh", "/srv/.a/run.sh"], ["/srv/run.sh", "/srv/a/b/run.sh"]],
    ["/srv/**/run.sh", ["/srv/run.sh", "/srv/a/run.sh", "/srv/a/b/run.sh"], ["/srv/a/xrun.sh", "/run.sh"]],
    ["/a/**/b/**/c.sh", ["/a/b/c.sh", "/a/x/b/b/y/c.sh"], ["/a/c.sh", "/a/b/x.sh"]],
    ["/srv/a*.sh", ["/srv/a.sh", "/srv/a%_[x]'\\\n.sh"], ["/srv/b.sh", "/srv/a/x.sh"]],
    ["/srv/a[b]?.sh", ["/srv/a[b]?.sh"], ["/srv/ab.sh", "/srv/abc.sh"]],
    ["/**", ["/a.sh", "/a/b.sh"], []],
  ])("%s matches %j and not %j", ([pattern, matching, others]) => {
    expect(ScriptPattern.safeParse(pattern).error).toBeUndefined();
    for (const path of matching) expect(reachesScript(scripts(pattern), path), path).toBe(true);
    for (const path of others) expect(reachesScript(scripts(pattern), path), path).toBe(false);
  });

  test.for([
    ["ops/*.sh", "must be an absolute path"],
    ["", "must be an absolute path"],
    ["/srv//a.sh", "must not have an empty segment"],
    ["/srv/", "must not have an empty segment"],
    ["/srv/../a.sh", "must not have . or .. as a segment"],
    ["/srv/./a.sh", "must not have . or .. as a segment"],
    ["/srv/a**", "must have ** as a whole segment"],
    ["/srv/**.sh", "must have ** as a whole segment"],
    ["/srv/***", "must have ** as a whole segment"],
    ["/srv/a\n*", "must not contain control characters"],
    ["/srv/ops", "matches no script"],
    ["/srv/*.py", "matches no script"],
    [`/${"x".repeat(4_095)}*`, "must be at most 4095 characters"],
  ])("%s is refused: it %s", ([pattern, reason]) => {
    expect(ScriptPattern.safeParse(pattern).error?.issues[0]?.message).toMatch(reason!);
  });

  test("finds below a folder what may be in reach, and nothing below another", () => {
    const reach = scripts("/srv/*/ops/**/x.sh", "/one.sh");
    for (const folder of ["/", "/srv", "/srv/a", "/srv/a/ops", "/srv/a/ops/b/c"])
      expect(reachesBelow(reach, folder), folder).toBe(true);
    for (const folder of ["/etc", "/srv/a/b", "/one.sh", "/srvx"])
      expect(reachesBelow(reach, folder), folder).toBe(false);
  });
});

/** Few characters, so that patterns and texts often fit: those that mean something to SQL, GLOB, LIKE and regular expressions too. */
const CHARACTERS = ["a", "b", "*", "%", "_", "[", "]", "?", "\\", "'", '"', ".", "\n", "\u00e9", "\u{1f600}"];
const segment = fc
  .array(fc.constantFrom(...CHARACTERS), { minLength: 1, maxLength: 5 })
  .map((all) => all.join(""));
const path = fc.array(segment, { minLength: 1, maxLength: 5 }).map((all) => `/${all.join("/")}`);
const patternOfPath = fc
  .array(
    fc.oneof(
      segment.filter((each) => !each.includes("**")),
      fc.constant("**"),
    ),
    { minLength: 1, maxLength: 5 },
  )
  .map((all) => `/${all.join("/")}`);

/** What a pattern means, as a regular expression: another way to say it, which takes too long for some. */
function expressionOf(pattern: string): RegExp {
  const segments = pattern.slice(1).split("/");
  const parts = segments.map((each, i) => {
    if (each === "**") return i === segments.length - 1 ? "(?:/[^/]+)+" : "(?:/[^/]+)*";
    return `/${each.replaceAll(/[$()+.?[\\\]^{|}]/g, "\\$&").replaceAll("*", "[^/]*")}`;
  });
  return new RegExp(`^${parts.join("")}$`);
}

test("a path matches a pattern exactly when the regular expression of the pattern matches it", () => {
  fc.assert(
    fc.property(patternOfPath, path, (pattern, text) => {
      const isMatch = expressionOf(pattern).test(text);
      expect(reachesScript(scripts(pattern), text)).toBe(isMatch);
      if (!isMatch) return;
      expect(text.startsWith(literalStart(pattern))).toBe(true);
      for (let end = text.lastIndexOf("/"); end >= 0; end = text.lastIndexOf("/", end - 1)) {
        expect(reachesBelow(scripts(pattern), text.slice(0, end) || "/"), text.slice(0, end)).toBe(true);
        if (end === 0) break;
      }
    }),
    { numRuns: 1_000 },
  );
});

test("a pattern with many stars takes no longer than its length and that of the text multiplied", () => {
  const pattern = `/${"a*".repeat(2_000)}b.sh`;
  expect(reachesScript(scripts(pattern), `/${"a".repeat(4_000)}`)).toBe(false);
});

test("a reach travels as one segment of a path, and comes back as it was", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 }), (name) => {
      const reach: Reach = { recipes: ["a*"], script_paths: ["/\u00e9/**"], key_name: name };
      expect(encodeReach(reach)).toMatch(/^[\w-]+$/);
      expect(decodeReach(encodeReach(reach))).toEqual(reach);
    }),
  );
});

test("a reach with a part that this version does not know is not understood, and neither is half of one", () => {
  const encoded = encodeReach({ recipes: ["a"], limits: {} } as Reach);
  for (const text of [encoded, "", "!", encodeReach(recipes("a")).slice(0, -3), encodeReach(recipes())])
    expect(decodeReach(text), text).toBeUndefined();
});

const pathOf = (length: number) => `/${"x".repeat(length)}.sh`;

test("a reach that would not fit into a request to an agent is refused as too long", () => {
  expect(faultOfSize(scripts(pathOf(2_000)))).toBeUndefined();
  expect(faultOfSize(scripts(pathOf(4_000)))).toMatch("too long together");
});

test("a run is in reach by its recipe or script and by its key, each only where the reach names it", () => {
  const ofRecipe = { source: "pipeline", keyName: "k", target: "a" } as const;
  const ofScript = { source: "script", keyName: "k", target: "/a.sh" } as const;
  expect(reachesRun(undefined, ofRecipe)).toBe(true);
  expect(reachesRun({}, ofRecipe)).toBe(true);
  expect(reachesRun({ key_name: "k" }, ofRecipe)).toBe(true);
  expect(reachesRun({ key_name: "K" }, ofRecipe)).toBe(false);
  expect(reachesRun(recipes("b"), ofRecipe)).toBe(false);
  expect(reachesRun(recipes("b"), ofScript)).toBe(true);
  expect(reachesRun(scripts("/b.sh"), ofRecipe)).toBe(true);
  expect(reachesRun(scripts("/b.sh"), ofScript)).toBe(false);
  expect(reachesRun(scripts("/**"), { ...ofScript, target: undefined })).toBe(false);
  expect(reachesRun({ key_name: "k" }, { ...ofScript, target: undefined })).toBe(true);
});
