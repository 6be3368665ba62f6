import { mkdirSync, realpathSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { openRecipes } from "../../../host-agent/catalogue/recipes.ts";
import { openScripts } from "../../../host-agent/catalogue/scripts.ts";
import type { PreviewOrder } from "../../../host-agent/protocol/launch.ts";
import { type PlanDeps, planLaunch } from "../../../host-agent/runs/launch-plan.ts";
import { sha256 } from "../../../host-agent/system/sha256.ts";
import { tempDir } from "../../support/temp-dir.ts";

const SCRIPT = "#!/bin/sh\n";
const PLAIN = { recipe_id: "plain", title: "Plain", description: "", command: ["/bin/echo", "a b"] };
const FULL = {
  ...PLAIN,
  recipe_id: "full",
  cwd: "/",
  env: { A: "1" },
  terminal: true,
  log_dir: "/var/log/full",
  timeout_seconds: 3,
  max_running: 2,
  params: [{ name: "n", type: "integer" }],
};

/** Plans over a real recipes file and a real script root. */
function world() {
  const dir = realpathSync(tempDir());
  const root = join(dir, "root");
  mkdirSync(root);
  const path = join(root, "job.sh");
  writeFileSync(path, SCRIPT, { mode: 0o755 });
  const recipesFile = join(dir, "recipes.json");
  const faulty = ["faulty", "faulty-too"].map((recipe_id) => ({ recipe_id, title: 7 }));
  const kept = { ...PLAIN, recipe_id: "kept", kill_left_behind: false };
  writeFileSync(recipesFile, JSON.stringify({ recipes: [PLAIN, FULL, kept, ...faulty] }));
  const urls: string[] = [];
  const deps: PlanDeps = {
    recipes: openRecipes(recipesFile, () => {}),
    scripts: openScripts([root]),
    logDir: "/logs",
    checkCallbackUrl: (url) => void urls.push(url),
  };
  return {
    dir,
    root,
    path,
    urls,
    plan: (order: object, changes: Partial<PlanDeps> = {}) =>
      planLaunch({ key_name: "k", ...order } as PreviewOrder, { ...deps, ...changes }),
  };
}

const ofRecipe = (recipe_id: string, given: object = {}) => ({
  source: "pipeline",
  spec: { recipe_id, args: "", ...given },
});

describe("the plan of a launch", () => {
  test("of a recipe is its command, then its parameters, then the words of args, with its limits and folder of logs", async () => {
    const { plan } = world();
    expect(await plan(ofRecipe("full", { params: { n: 5 }, args: "x 'y z'" }))).toEqual({
      command: {
        argv: ["/bin/echo", "a b", "--n", "5", "x", "y z"],
        cwd: "/",
        env: { A: "1" },
        terminal: true,
        script: undefined,
        logDir: "/var/log/full",
        limits: {},
      },
      cmd: "/bin/echo 'a b' --n 5 x 'y z'",
      logName: "full",
      script: undefined,
      recipeId: "full",
      timeoutSeconds: 3,
      maxRunning: 2,
      keepDays: undefined,
      killLeftBehind: false,
    });
  });

  test("of a recipe without options has no limits, no terminal and the folder of logs of the host", async () => {
    const { plan } = world();
    expect(await plan(ofRecipe("plain"))).toMatchObject({
      command: { argv: PLAIN.command, env: {}, terminal: false, logDir: "/logs" },
      timeoutSeconds: undefined,
      maxRunning: undefined,
      keepDays: undefined,
      killLeftBehind: false,
    });
  });

  test("of a script is its command and words, in its folder, without limits", async () => {
    const { plan, path, root } = world();
    const planned = await plan({ source: "script", spec: { path, args: "x 'y z'" } });
    const { script } = planned;
    expect(script).toMatchObject({ sha256: sha256(SCRIPT), folder: root });
    expect(planned).toEqual({
      command: {
        argv: [...script!.command, "x", "y z"],
        cwd: root,
        env: {},
        terminal: false,
        script,
        logDir: "/logs",
      },
      cmd: [...script!.command, "x", "'y z'"].join(" "),
      logName: "job",
      script,
      recipeId: undefined,
      timeoutSeconds: undefined,
      maxRunning: undefined,
      keepDays: undefined,
      killLeftBehind: false,
    });
  });

  test("has a terminal as the client orders it, whatever the recipe says", async () => {
    const { plan, path } = world();
    const terminalOf = async (order: object) => (await plan(order)).command.terminal;
    expect(await terminalOf(ofRecipe("full", { terminal: false }))).toBe(false);
    expect(await terminalOf(ofRecipe("plain", { terminal: true }))).toBe(true);
    expect(await terminalOf({ source: "script", spec: { path, args: "", terminal: true } })).toBe(true);
  });

  test("kills what a run leaves behind as the host says, unless the recipe says it", async () => {
    const { plan, path } = world();
    const orders = [ofRecipe("plain"), ofRecipe("kept"), { source: "script", spec: { path, args: "" } }];
    const plans = await Promise.all(orders.map((order) => plan(order, { killLeftBehind: true })));
    expect(plans.map(({ killLeftBehind }) => killLeftBehind)).toEqual([true, false, true]);
  });

  test("is not made for a recipe that does not exist, or is not valid, and says which of the two", async () => {
    const { plan } = world();
    await expect(plan(ofRecipe("none"))).rejects.toMatchObject({
      code: "recipe_not_found",
      message: "recipe_id: there is no recipe none",
    });
    await expect(plan(ofRecipe("faulty"))).rejects.toMatchObject({
      code: "recipe_not_found",
      message:
        "recipe_id: recipe faulty is not valid in the recipes file of the host; its operator has to correct it",
    });
  });

  test("is not made for args with an open quote, of a recipe or a script", async () => {
    const { plan, path } = world();
    for (const order of [
      ofRecipe("plain", { args: "'open" }),
      { source: "script", spec: { path, args: "'open" } },
    ]) {
      await expect(plan(order)).rejects.toMatchObject({
        code: "invalid_request",
        message: expect.stringMatching(/^args: ./),
      });
    }
  });

  test("that an error of ours prevents is no fault of args", async () => {
    const { plan } = world();
    const fault = new Error("ours");
    const includes = () => {
      throw fault;
    };
    await expect(plan(ofRecipe("plain", { args: { includes } }))).rejects.toBe(fault);
  });

  test("checks the callback URL when there is one", async () => {
    const { plan, urls } = world();
    await plan(ofRecipe("plain"));
    expect(urls).toEqual([]);
    await plan({ ...ofRecipe("plain"), callback_url: "https://client.example/" });
    expect(urls).toEqual(["https://client.example/"]);
  });
});
