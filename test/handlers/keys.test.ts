import { describe, expect, test } from "vitest";

import { parseKeys } from "../../handlers/keys.ts";
import { sha256 } from "../../host-agent/system/sha256.ts";

/** A keys file with a key for each name. */
function fileOf(...names: string[]): string {
  const keys = names.map((name, i) => ({ name, key: `sk_test_0123456789${i}`, scopes: ["*"] }));
  return JSON.stringify({ keys });
}

test.for(["dev", "public", "Dev", "PUBLIC", "d e v", "\uff44ev"])(
  "a key may not be named %s, as requests without a key are in the records",
  async (name) => {
    await expect(parseKeys(fileOf(name), sha256)).rejects.toThrow("keys.0.name: must not be dev or public");
  },
);

test.for([
  ["acme", "Acme"],
  ["acme prod", "acmeprod"],
  ["acme", "ac\u0301me"],
  ["acme", "\uff41cme"],
])("two clients may not have the names %s and %s, which people take for one", async ([one, two]) => {
  await expect(parseKeys(fileOf(one!, two!), sha256)).rejects.toThrow(
    /^keys\.1\.name: .* looks like the name /,
  );
});

test("a name may not mix alphabets whose letters look the same", async () => {
  await expect(parseKeys(fileOf("\u0430cme"), sha256)).rejects.toThrow("must not mix Latin letters");
});

test("keys of one name, and names of any one alphabet, are accepted", async () => {
  const names = [
    "acme",
    "acme",
    "acme-2",
    "acme_2",
    "\u0441\u043a\u043b\u0430\u0434",
    "\u65e5\u672c",
    "devops",
    "zo\u00eb",
  ];
  expect(await parseKeys(fileOf(...names), sha256)).toMatchObject({ mode: "enforced" });
});

/** The ring of a keys file with one key that has these fields. */
const ringWith = (fields: object) => {
  const entry = { name: "acme", key: "sk_test_0123456789", scopes: ["*"], ...fields };
  return parseKeys(JSON.stringify({ keys: [entry] }), sha256);
};

async function reachWith(fields: object) {
  const ring = await ringWith(fields);
  if (ring.mode !== "enforced") throw new Error(ring.mode);
  return [...ring.keys.values()][0]!.reach;
}

describe("the reach in a key's entry", () => {
  test("is what its fields say, and nothing where they limit nothing", async () => {
    expect(await reachWith({})).toBeUndefined();
    expect(await reachWith({ runs: "all", recipes: ["a", "*"], script_paths: ["/**"] })).toBeUndefined();
    expect(await reachWith({ recipes: ["nightly_*"], script_paths: ["/srv/ops/**"], runs: "own" })).toEqual({
      recipes: ["nightly_*"],
      script_paths: ["/srv/ops/**"],
      key_name: "acme",
    });
  });

  test.for([
    [{ recipes: ["ok", "a b"] }, "keys.0.recipes.1: must be a recipe id"],
    [{ recipes: [] }, "keys.0.recipes: must have at least one pattern"],
    [{ recipes: "a" }, "keys.0.recipes: "],
    [{ recipes: null }, "keys.0.recipes: "],
    [{ script_paths: ["/srv/ops/**", "ops/*"] }, "keys.0.script_paths.1: must be an absolute path"],
    [
      { script_paths: Array.from({ length: 101 }, () => "/a.sh") },
      "keys.0.script_paths: must have at most 100",
    ],
    [{ script_paths: [`/${"a".repeat(4_000)}.sh`] }, "keys.0: the patterns are too long together"],
    [{ runs: "mine" }, "keys.0.runs: must be own or all"],
    [{ limits: { max_running: 4 } }, "keys.0.limits: this version has no limits of keys"],
  ] as const)("%o is refused with its place: %s", async ([fields, message]) => {
    await expect(ringWith(fields)).rejects.toThrow(message);
  });

  test.for([
    ["recipe", "recipes"],
    ["Recipes", "recipes"],
    ["reciepes", "recipes"],
    ["recipe_ids", "recipes"],
    ["_recipes", "recipes"],
    ["scripts", "script_paths"],
    ["script_path", "script_paths"],
    ["scipt_paths", "script_paths"],
    ["paths", "script_paths"],
    ["run", "runs"],
    ["Runs", "runs"],
    ["own_runs", "runs"],
    ["limit", "limits"],
  ])("the misspelt field %s would open a door and is refused: %s was meant", async ([field, meant]) => {
    await expect(ringWith({ [field!]: ["x"] })).rejects.toThrow(
      `unknown field ${field}; did you mean ${meant}?`,
    );
  });

  test("has a warning for every other field that nothing reads, without a name that may be a key", async () => {
    const { warnings } = await ringWith({ note: "x", sk_live_0123456789abcdef: 1 });
    expect(warnings).toEqual([
      "keys.0 (acme): the field note is unknown and has no effect",
      "keys.0 (acme): the field with a long or unusual name is unknown and has no effect",
    ]);
    expect((await ringWith({ runs: "own" })).warnings).toBeUndefined();
  });
});
