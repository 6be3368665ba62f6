import { describe, expect, test } from "vitest";

import { type Deploy, type Hub, sharedHub } from "../../support/hub.ts";
import { TYPED } from "./typed-recipe.ts";

const PIPELINES = "/api/v1/pipelines/runs";
const SCRIPTS = "/api/v1/scripts/runs";

const STRICT = {
  ...TYPED,
  recipe_id: "strict",
  args_help: undefined,
  params: [{ name: "input", type: "string", required: true }],
};

const UNKNOWN = "unknown parameter; this recipe has limit, ratio, mode, name, text, force";

async function wordsOf(hub: Hub, body: object): Promise<string[]> {
  const { status, json } = await hub.post(PIPELINES, { recipe_id: "typed", ...body });
  expect(status).toBe(201);
  await hub.ended(json);
  return [...(await hub.log(json)).matchAll(/<([^]*?)>\n/g)].map(([, word]) => word!);
}

async function countRuns(hub: Hub): Promise<number> {
  const lists = await Promise.all([PIPELINES, SCRIPTS].map((base) => hub.get(`${base}?limit=500`)));
  return lists.reduce((sum, { json }) => sum + json.runs.length, 0);
}

/** The typed parameters of a recipe, as every deployment takes them. */
export function paramsContract(deploy: Deploy): void {
  describe("recipe parameters", () => {
    const shared = sharedHub({ deploy, recipes: [TYPED, STRICT] });

    test("the recipe list has all that a form needs for its parameters, and nothing of the command", async () => {
      const hub = shared();

      const { json } = await hub.get("/api/v1/pipelines/recipes");

      const [hello, typed, strict] = json.recipes;
      expect(hello).toMatchObject({ args_help: null, params: [] });
      expect(typed.args_help).toBe(TYPED.args_help);
      expect(typed.params).toEqual([
        { ...TYPED.params[0], flag: "--limit", required: false },
        { ...TYPED.params[1], required: false },
        { ...TYPED.params[2], flag: "--mode", required: false },
        { ...TYPED.params[3], flag: "--name", required: false },
        { ...TYPED.params[4], flag: "--text", required: false },
        { ...TYPED.params[5], flag: "--force", required: false },
      ]);
      expect(strict.params).toEqual([{ name: "input", flag: "--input", type: "string", required: true }]);
      expect(JSON.stringify(json)).not.toContain("printf");
    });

    test("parameters become arguments before args, in the order of the recipe, with defaults", async () => {
      const hub = shared();

      expect(await wordsOf(hub, {})).toEqual(["--mode", "fast"]);
      expect(
        await wordsOf(hub, {
          params: { force: true, text: "$(id) 'a' *", mode: "full", ratio: 0.5, limit: 10_000 },
          args: "--last word",
        }),
      ).toEqual([
        "--limit",
        "10000",
        "-r",
        "0.5",
        "--mode",
        "full",
        "--text",
        "$(id) 'a' *",
        "--force",
        "--last",
        "word",
      ]);
      expect(await wordsOf(hub, { params: { force: false, text: "" } })).toEqual([
        "--mode",
        "fast",
        "--text",
        "",
      ]);
    });

    test("a parameter value that begins with a dash is never a separate argument", async () => {
      const hub = shared();

      const words = await wordsOf(hub, { params: { ratio: -1.5, name: "--force", text: "-rf" } });

      expect(words).toEqual(["-r-1.5", "--mode", "fast", "--name=--force", "--text=-rf"]);
    });

    test.for([
      [{ limit: "5" }, "limit", "must be a whole number"],
      [{ limit: 1.5 }, "limit", "must be a whole number"],
      [{ limit: 1e300 }, "limit", "must be a whole number"],
      [{ limit: 0 }, "limit", "must be at least 1"],
      [{ limit: 10_001 }, "limit", "must be at most 10000"],
      [{ ratio: "1" }, "ratio", "must be a number"],
      [{ mode: "slow" }, "mode", "must be one of fast, full"],
      [{ mode: "constructor" }, "mode", "must be one of fast, full"],
      [{ name: "a1" }, "name", "must match [a-z-]+"],
      [{ name: "ok\n" }, "name", "must match [a-z-]+"],
      [{ name: 5 }, "name", "must be a string"],
      [{ text: "a\0b" }, "text", "must not contain a NUL character"],
      [{ text: "x".repeat(4_097) }, "text", "must be at most 4096 characters"],
      [{ force: "true" }, "force", "must be true or false"],
      [{ force: 1 }, "force", "must be true or false"],
      [{ text: null }, "text", "must be a string, a number or a boolean"],
      [{ text: ["a"] }, "text", "must be a string, a number or a boolean"],
      [{ other: 1 }, "other", UNKNOWN],
      [{ constructor: "x" }, "constructor", UNKNOWN],
    ] as const)(
      "the parameters %j are refused with a message that names the wrong one",
      async ([params, name, message]) => {
        const hub = shared();

        const before = await countRuns(hub);
        const { status, json } = await hub.post(PIPELINES, { recipe_id: "typed", params });

        expect(status).toBe(422);
        expect(json.code).toBe("invalid_request");
        expect(json.errors).toEqual([{ path: `body.params.${name}`, message }]);
        expect(json.detail).toContain(`body.params.${name}: `);
        expect(await countRuns(hub)).toBe(before);
      },
    );

    test("each wrong parameter is named, also a missing one and one with a name of Object.prototype", async () => {
      const hub = shared();

      const several = await hub.post(PIPELINES, { recipe_id: "typed", params: { limit: "x", force: 1 } });
      const missing = await hub.post(PIPELINES, { recipe_id: "strict" });
      const proto = await hub.post(PIPELINES, '{"recipe_id": "typed", "params": {"__proto__": 1}}');
      const script = await hub.post(SCRIPTS, { path: await hub.script("a.sh", "true"), params: {} });
      const none = await hub.post(PIPELINES, { recipe_id: "hello", params: { a: 1 } });

      expect(several.json.errors.map(({ path }: { path: string }) => path)).toEqual([
        "body.params.limit",
        "body.params.force",
      ]);
      expect(missing.json.errors).toEqual([{ path: "body.params.input", message: "is missing" }]);
      expect(proto).toMatchObject({ status: 422, json: { errors: [{ path: "body.params.__proto__" }] } });
      expect(script.json.errors).toEqual([{ path: "body.params", message: "unknown field" }]);
      expect(none.json.errors[0].message).toBe("unknown parameter; this recipe has no parameters");
    });
  });
}
