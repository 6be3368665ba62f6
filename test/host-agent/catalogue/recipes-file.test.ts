import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { openRecipes } from "../../../host-agent/catalogue/recipes.ts";
import { parseCatalogue } from "../../../host-agent/catalogue/recipes-file.ts";
import { startHub } from "../../support/hub.ts";
import { tempDir } from "../../support/temp-dir.ts";

const good = { recipe_id: "good", title: "Good", description: "", command: ["true"] };
const bad = { ...good, recipe_id: "bad" };

/** What is wrong with a file that has this recipe next to a good one. */
function faultsOf(recipe: object): string[] {
  const text = JSON.stringify({ recipes: [good, { ...bad, ...recipe }] }, null, 2);
  const { recipes, faults } = parseCatalogue(text, "/srv");
  expect([...recipes.keys()]).toEqual(["good"]);
  return faults.map(({ message }) => message);
}

describe("a recipe that is wrong", () => {
  test("costs itself only: the others are launched, and the health reports it without names", async () => {
    await using hub = await startHub();
    const text = JSON.stringify({ recipes: [good, { ...bad, timeout_seconds: "60" }] }, null, 2);
    writeFileSync(hub.recipesFile, text);

    const launched = await hub.post("/api/v1/pipelines/runs", { recipe_id: "good" });
    expect(launched.status).toBe(201);
    await hub.ended(launched.json);
    const refused = await hub.post("/api/v1/pipelines/runs", { recipe_id: "bad" });
    expect(refused.json).toMatchObject({
      status: 404,
      code: "recipe_not_found",
      detail: expect.stringContaining("recipe bad is not valid in the recipes file"),
    });
    expect((await hub.get("/healthz")).json).toMatchObject({
      status: "degraded",
      problems: ["the recipes file has recipes that cannot be used; the others are in force"],
    });
  });

  test("stays as it was last valid while the service runs", async () => {
    const path = join(tempDir(), "recipes.json");
    const entries: Record<string, unknown>[] = [];
    const recipes = openRecipes(path, (entry) => entries.push(entry));
    const write = (...list: object[]) => writeFileSync(path, JSON.stringify({ recipes: list }));
    write(good, { ...bad, title: "Before" });
    await recipes.current();

    write({ ...good, title: "After" }, { ...bad, title: "" });
    const { recipes: inForce } = await recipes.current();
    expect([...inForce.values()].map(({ title }) => title)).toEqual(["After", "Before"]);
    expect(await recipes.problem()).toEqual({
      message:
        "the recipes file has recipes that cannot be used: recipe bad, line 1: `title` must not be empty",
      isPartial: true,
    });

    write(good, { ...bad, title: "Fixed" });
    expect((await recipes.current()).recipes.get("bad")).toMatchObject({ title: "Fixed" });
    expect(await recipes.problem()).toBeUndefined();
    expect(entries.map(({ event }) => event)).toEqual(["recipes_file_broken", "recipes_file_mended"]);
  });

  test.for([
    [{ timeout_seconds: "60" }, "`timeout_seconds` must be a number: write 60 without quotes"],
    [{ timeout_seconds: 1.5 }, "`timeout_seconds` must be a whole number"],
    [{ timeout_seconds: 0 }, "`timeout_seconds` must be at least 1"],
    [{ terminal: "yes" }, "`terminal` must be true or false, but it is a string"],
    [{ terminal: "true" }, "`terminal` must be true or false: write true without quotes"],
    [{ command: "echo hello" }, "`command` must be a list, but it is a string"],
    [{ command: [] }, "`command` must not be empty"],
    [{ command: ["echo", 1] }, '`command[1]` must be a string, but it is 1: write "1"'],
    [{ title: undefined }, "`title` is missing (each recipe needs recipe_id, title, description, command)"],
    [{ title: null }, "`title` must be a string, but it is null"],
    [{ title: "x".repeat(201) }, "`title` must have at most 200 characters"],
    [{ comand: ["x"] }, "unknown field `comand`; did you mean `command`?"],
    [{ nothing: 1 }, "unknown field `nothing`"],
    [
      { env: { CUDA_VISIBLE_DEVICES: 0 } },
      '`env.CUDA_VISIBLE_DEVICES` must be a string, but it is 0: write "0"',
    ],
    [{ env: { "A-B": "" } }, "`env.A-B` is not the name of a variable: letters, digits and underscores"],
    [{ env: ["A=1"] }, "`env` must be an object, but it is a list"],
    [{ params: [{ name: "a" }] }, "`params[0].type` must be one of string, integer, number, boolean, enum"],
    [{ params: [{ name: "a", type: "string", x: 1 }] }, "unknown field `params[0].x`"],
    [{ params: [{ type: "string" }] }, "`params[0].name` is missing"],
  ] as const)("is reported with recipe, line and field in plain words: %j", ([recipe, message]) => {
    const [found, ...others] = faultsOf(recipe);
    expect(found).toMatch(/^recipe bad, line \d+: /);
    expect(found!.replace(/^.*?: /, "")).toBe(message);
    expect(others).toEqual([]);
  });

  test.for([
    [{ cwd: "~/eval" }, "`cwd` has ~, which is not expanded here; write the path itself"],
    [{ cwd: "~mark" }, "`cwd` has ~mark, which is not expanded here; write the path itself"],
    [{ cwd: "/srv/$PROJECT/x" }, "`cwd` has $PROJECT, which is not expanded here; write the path itself"],
    [{ log_dir: "${HOME}/logs" }, "`log_dir` has ${HOME}, which is not expanded here; write the path itself"],
    [
      { log_dir: "logs/{run_id}" },
      "`log_dir` has {run_id}, which is not expanded here; write the path itself",
    ],
    [{ command: ["~/bin/x"] }, "`command[0]` has ~, which is not expanded here; write the path itself"],
    [
      { env: { PATH: "/opt/bin:$PATH" } },
      "`env.PATH` has $PATH, which is not expanded here; write the value itself",
    ],
    [{ env: { DATA: "~/data" } }, "`env.DATA` has ~, which is not expanded here; write the value itself"],
    [
      { env: { OUT: "/tmp/{run_id}" } },
      "`env.OUT` has {run_id}, which is not expanded here; the command can read $HUB_RUN_ID itself",
    ],
  ] as const)(
    "that counts on a shell is refused when the file is read, with the field: %j",
    ([recipe, message]) => {
      expect(faultsOf(recipe).map((found) => found.replace(/^.*?: /, ""))).toEqual([message]);
    },
  );

  test("may have these signs where they mean themselves", () => {
    const recipe = {
      ...good,
      command: ["/bin/sh", "-c", "echo ~ $HOME {run_id}"],
      cwd: "./~folder",
      env: { PS4: "+ $LINENO ", PASSWORD: "a$b~c", JSON: '{"a": 1}' },
    };
    expect(parseCatalogue(JSON.stringify({ recipes: [recipe] }), "/").faults).toEqual([]);
  });

  test("is found by the line of its field", () => {
    const text = `{\n  "recipes": [\n    // one\n    {\n      "recipe_id": "a",\n      "title": "A",\n      "description": "",\n      "command": "true"\n    },\n    ${JSON.stringify(good)}\n  ]\n}`;
    expect(parseCatalogue(text, "/").faults).toMatchObject([{ recipeId: "a", line: 8 }]);
  });

  test("never shows the value of a variable, which may be a secret", () => {
    expect(faultsOf({ env: { TOKEN: ["hunter2"] } }).join()).not.toContain("hunter2");
  });

  test("with the id of another recipe makes both of them unusable: nobody can know which one is meant", () => {
    const text = JSON.stringify({ recipes: [good, bad, { ...bad, command: ["false"] }] }, null, 1);
    const { recipes, faults } = parseCatalogue(text, "/");
    expect([...recipes.keys()]).toEqual(["good"]);
    expect(faults.map(({ message }) => message)).toEqual([
      "recipe bad, line 11: recipe_id bad is a duplicate of line 19; none of them can be launched",
      "recipe bad, line 19: recipe_id bad is a duplicate of line 11; none of them can be launched",
    ]);
  });

  test("that has a field twice is refused: JSON does not say which one counts", () => {
    const twice = JSON.stringify(bad).replace('"title"', '"command":["false"],"title"');
    const { faults } = parseCatalogue(`{"recipes": [${JSON.stringify(good)}, ${twice}]}`, "/");
    expect(faults.map(({ message }) => message)).toEqual([
      "recipe 2 (without a valid recipe_id), line 1: field `command` is a duplicate",
    ]);
  });
});

describe("a recipes file", () => {
  test("may have comments, trailing commas and a byte order mark", () => {
    const text = `\uFEFF// ours\n{ "recipes": [ /* one */ ${JSON.stringify(good)}, ], }\n`;
    const { recipes, faults } = parseCatalogue(text, "/");
    expect([[...recipes.keys()], faults]).toEqual([["good"], []]);
  });

  test.for([
    ["", "the file is empty"],
    ["// none", "line 1: a value is missing"],
    ["[]", 'it must be an object with a list `recipes`, such as {"recipes": []}'],
    ['{"recipes": {}}', "it must be an object with a list `recipes`"],
    ['{"recipes": [],\n "recipe": []}', "line 2: unknown field `recipe`; did you mean `recipes`?"],
    ['{"recipes": [], "recipes": []}', "field `recipes` is a duplicate"],
    ['{"recipes": [],\n\n "error_markers": ["("]}', "line 3: `error_markers[0]` Invalid regular expression"],
    ['{\n"recipes": [\n{"recipe_id": "a" "title": "b"}]}', "line 3: a comma is missing"],
    ['{"recipes": [', "line 1: a ] is missing"],
    [`{"recipes": ${"[".repeat(200_000)}`, "nested too deeply"],
  ] as const)("that cannot be read as a whole is refused with the reason: %j", ([text, reason]) => {
    expect(() => parseCatalogue(text, "/")).toThrow(reason);
  });
});
