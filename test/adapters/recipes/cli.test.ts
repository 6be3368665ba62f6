import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";

import { tempDir } from "../../support/temp-dir.ts";

const CLI = join(import.meta.dirname, "..", "..", "..", "adapters", "recipes", "cli.ts");
const good = { recipe_id: "good", title: "Good", description: "", command: ["true"] };

function recipes(args: string[], env: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, ...args], {
    encoding: "utf8",
    env: { HOME: "/nonexistent", ...env },
  });
  return { status, stdout, stderr };
}

function file(text: string): string {
  const path = join(tempDir(), "recipes.json");
  writeFileSync(path, text);
  return path;
}

test("a check of a recipes file lists each wrong recipe by id, line and field, and fails", () => {
  const path = file(JSON.stringify({ recipes: [good, { ...good, recipe_id: "bad", terminal: 1 }] }, null, 1));
  expect(recipes(["check", path])).toEqual({
    status: 1,
    stdout: `recipe bad, line 18: \`terminal\` must be true or false\n${path}: 1 recipe is valid; correct the lines above, the others stay in force.\n`,
    stderr: "",
  });
});

test("a check of a valid file passes, also of the one that the setting names and of the samples", () => {
  const path = file(JSON.stringify({ recipes: [good] }));
  const passed = { status: 0, stdout: `${path}: 1 recipe is valid.\n`, stderr: "" };
  expect(recipes(["check", path])).toEqual(passed);
  expect(recipes(["check"], { HUB_RECIPES_FILE: path })).toEqual(passed);
  expect(recipes(["check"])).toMatchObject({
    status: 0,
    stdout: expect.stringContaining("3 recipes are valid"),
  });
});

test("a check of a file that cannot be read says why", () => {
  expect(recipes(["check", "/nonexistent.json"])).toMatchObject({
    status: 1,
    stdout: expect.stringContaining("/nonexistent.json cannot be used: ENOENT"),
  });
});

test.for([[[]], [["chek"]], [["check", "a", "b"]], [["check", "--no"]]] as const)(
  "wrong usage is exit code 64 with a hint: %j",
  ([args]) => {
    const { status, stderr } = recipes([...args]);
    expect(status).toBe(64);
    expect(stderr).toContain("Try: npm run recipes -- --help");
  },
);
