// oxlint-disable vitest/no-conditional-expect, no-await-in-loop -- a property has its cases
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

import { sha256 } from "../../../host-agent/system/sha256.ts";
import { parseKeys } from "../../../handlers/keys.ts";
import { parseTrustFile } from "../../../host-agent/door/trusted-keys.ts";
import { parseCatalogue } from "../../../host-agent/catalogue/recipes-file.ts";

const SECRET = "sk_live_very_secret_0123456789";
const KEYS = {
  keys: [
    {
      name: "acme",
      key: SECRET,
      scopes: ["scripts:read", "*"],
      created: "2026-01-01",
      expires: "2030-01-01",
    },
    { name: "other", key_sha256: "0".repeat(64), scopes: ["pipelines:read"] },
  ],
};
const RECIPES = {
  recipes: [
    {
      recipe_id: "hello",
      title: "Hello",
      description: "",
      command: ["/bin/echo", "a"],
      cwd: "work",
      log_dir: "../logs",
      env: { A: "b" },
      terminal: true,
      timeout_seconds: 3,
      max_running: 2,
      error_markers: ["^Error"],
      args_help: "Names",
      params: [
        { name: "model", type: "enum", enum: ["small", "large"], default: "small" },
        { name: "seed", flag: "-s", type: "integer", minimum: 0, maximum: 9, required: true },
        { name: "title", type: "string", pattern: "[a-z]+", description: "What to call it" },
        { name: "quick", type: "boolean" },
      ],
    },
  ],
  error_markers: ["^Fatal"],
};
const TRUST = { keys: [{ kty: "OKP", crv: "Ed25519", kid: "k", x: "A".repeat(43) }] };

/** The text of a good file with one value in it replaced, a piece cut out, or a piece put in; and texts of any kind. */
function spoilt(good: object) {
  const text = JSON.stringify(good);
  const paths = pathsOf(good);
  const odd = fc.oneof(fc.jsonValue(), fc.constantFrom("__proto__", "", "\0", 1e300, -1, [], {}, null));
  return fc.oneof(
    fc
      .tuple(fc.constantFrom(...paths), odd)
      .map(([path, value]) => JSON.stringify(replaced(good, path, value))),
    fc.tuple(fc.nat(text.length), fc.nat(12)).map(([at, n]) => text.slice(0, at) + text.slice(at + n)),
    fc
      .tuple(fc.nat(text.length), fc.string({ unit: "binary", maxLength: 6 }))
      .map(([at, more]) => text.slice(0, at) + more + text.slice(at)),
    fc.json(),
    fc.string({ unit: "binary" }),
    fc.integer({ min: 1, max: 20_000 }).map((depth) => "[".repeat(depth) + "]".repeat(depth)),
  );
}

function pathsOf(value: unknown): string[][] {
  if (typeof value !== "object" || value === null) return [[]];
  return [
    [],
    ...Object.entries(value).flatMap(([key, inner]) => pathsOf(inner).map((path) => [key, ...path])),
  ];
}

function replaced(value: unknown, [key, ...rest]: string[], by: unknown): unknown {
  if (key === undefined) return by;
  const copy: Record<string, unknown> | unknown[] = Array.isArray(value)
    ? [...value]
    : { ...(value as object) };
  (copy as Record<string, unknown>)[key] = replaced((value as Record<string, unknown>)[key], rest, by);
  return copy;
}

/** What went wrong, as a message for a person; undefined when nothing did. */
async function complaint(work: () => unknown): Promise<string | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(Error);
    expect(error).not.toBeInstanceOf(TypeError);
    expect(error).not.toBeInstanceOf(RangeError);
    return (error as Error).message;
  }
}

describe("a file with random damage is read or refused with a reason", () => {
  test("a damaged keys file never shows a key in the reason and never opens access", async () => {
    await fc.assert(
      fc.asyncProperty(spoilt(KEYS), async (text) => {
        const said = await complaint(async () => {
          const ring = await parseKeys(text, sha256);
          const isEmptied = /"keys"\s*:\s*\[\s*\]/.test(text);
          if (ring.mode === "dev") expect(isEmptied).toBe(true);
        });
        expect(said ?? "").not.toContain(SECRET.slice(8, 20));
        expect(said).not.toBe("");
      }),
      { numRuns: 600 },
    );
  });

  test("a damaged recipes file is read or refused with a reason", async () => {
    expect(parseCatalogue(JSON.stringify(RECIPES), "/recipes").recipes.size).toBe(1);
    await fc.assert(
      fc.asyncProperty(spoilt(RECIPES), async (text) => {
        const said = await complaint(() => {
          for (const { command, cwd, log_dir, params } of parseCatalogue(text, "/recipes").recipes.values()) {
            expect(command.length).toBeGreaterThan(0);
            for (const path of [cwd, log_dir ?? "/"]) expect(path).toMatch(/^\/[^\0]*$/s);
            expect(new Set(params.map(({ name }) => name)).size).toBe(params.length);
          }
        });
        expect(said).not.toBe("");
      }),
      { numRuns: 600 },
    );
  });

  test("a damaged trust file is read or refused with a reason", async () => {
    await fc.assert(
      fc.asyncProperty(spoilt(TRUST), async (text) => {
        expect(await complaint(() => parseTrustFile(text))).not.toBe("");
      }),
      { numRuns: 600 },
    );
  });
});
