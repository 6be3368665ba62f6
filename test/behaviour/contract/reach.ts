import { mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { type Deploy, type Hub, startHub } from "../../support/hub.ts";
import type { Answer } from "../../support/openapi-check.ts";

/** The fields of a key's entry that limit its reach, for a script root. */
const REACHES = {
  everything: () => ({}),
  targets: (root: string) => ({ recipes: ["hel*"], script_paths: [`${root}/ops/**`] }),
  own: () => ({ runs: "own" }),
  both: (root: string) => ({ recipes: ["hel*"], script_paths: [`${root}/ops/**`], runs: "own" }),
} as const;
type KeyName = keyof typeof REACHES;
const KEYS = Object.keys(REACHES) as KeyName[];
const secretOf = (name: KeyName) => `sk_test_reach_${name}_0123456789abcdef`;

const NOBODY = "run_ffffffffffff";
const sourceOf = (what: string) => (what.endsWith(".sh") ? "script" : "pipeline");
const baseOf = (source: string) => `/api/v1/${source}s`;

interface Launched {
  by: KeyName;
  /** The recipe or the script's name. */
  what: "hello" | "other" | "ops/in.sh" | "out.sh";
  run: RunRecord;
}

/** What runs exist: with whose key each was launched, and of what. */
const LAUNCHES: [KeyName, Launched["what"]][] = [
  ["everything", "hello"],
  ["everything", "other"],
  ["everything", "ops/in.sh"],
  ["everything", "out.sh"],
  ["own", "other"],
  ["own", "out.sh"],
  ["both", "hello"],
  ["both", "ops/in.sh"],
];
const IN_TARGETS = new Set(["hello", "ops/in.sh"]);

function mayReach(key: KeyName, { by, what }: Pick<Launched, "by" | "what">): boolean {
  const isOwn = (key !== "own" && key !== "both") || key === by;
  const isTarget = (key !== "targets" && key !== "both") || IN_TARGETS.has(what);
  return isOwn && isTarget;
}

/** What a key with a reach can see and do: every kind of key, every operation, objects in and out of reach. */
export function reachContract(deploy: Deploy): void {
  describe("the reach of a key", () => {
    let hub: Hub;
    const launched: Launched[] = [];

    const ask = (key: KeyName, method: string, path: string, body?: unknown) =>
      hub.ask(method, path, { key: secretOf(key), ...(body !== undefined && { body }) });
    const inRoot = (name: string) => join(hub.root, name);
    const bodyOf = (what: string) =>
      what.endsWith(".sh") ? { path: join(hub.root, what) } : { recipe_id: what };

    /** What a run that does not exist is answered with. */
    const answerForUnknown = async (key: KeyName, method: string, path: string) => {
      const { json, ...answer } = await ask(key, method, path);
      expect(json.code, path).toBe("run_not_found");
      return plain({ json, ...answer }, NOBODY);
    };

    beforeAll(async () => {
      hub = await startHub({ deploy: withKeys(deploy), recipes: [OTHER_RECIPE] });
      await mkdir(join(hub.root, "ops"));
      for (const name of ["ops/in.sh", "out.sh"]) await hub.script(name, "echo news");
      await symlink(join(hub.root, "out.sh"), join(hub.root, "ops/leads-out.sh"));
      await symlink(join(hub.root, "ops/in.sh"), join(hub.root, "leads-in.sh"));
      for (const [by, what] of LAUNCHES) {
        const body = { ...bodyOf(what), label: "all" };
        const { json } = await ask(by, "POST", `${baseOf(sourceOf(what))}/runs`, body);
        launched.push({ by, what, run: json as RunRecord });
      }
      for (const { run } of launched) {
        const url = `${baseOf(run.source)}/runs/${run.run_id}`;
        const headers = { prefer: "wait=20" };
        expect((await hub.get(url, { key: secretOf("everything"), headers })).json.ended_at).not.toBeNull();
      }
    });
    afterAll(() => hub[Symbol.asyncDispose]());

    test("decides which runs it reads, whose logs it reads and which it kills; any other does not exist for it", async () => {
      const unknowns = new Map<string, object>();
      for (const key of KEYS) {
        for (const each of launched) {
          const { run_id, source } = each.run;
          for (const [method, path, open] of [
            ["GET", "", 200],
            ["GET", "/logs", 200],
            ["GET", "/logs?wait=5", 200],
            ["POST", "/kill", 409],
          ] as const) {
            const what = `${method} ${path} of ${each.what} of ${each.by} with ${key}`;
            const answer = await ask(key, method, `${baseOf(source)}/runs/${run_id}${path}`);
            const nowhere = `${baseOf(source)}/runs/${NOBODY}${path}`;
            const expected = unknowns.get(key + nowhere) ?? (await answerForUnknown(key, method, nowhere));
            unknowns.set(key + nowhere, expected);
            const isUnknown = isDeepStrictEqual(plain(answer, run_id), expected);
            const isReached = mayReach(key, each);
            expect({ status: answer.status, isUnknown }, what).toEqual({
              status: isReached ? open : 404,
              isUnknown: !isReached,
            });
          }
        }
      }
    });

    test("decides which runs it lists, filtered and page by page", async () => {
      for (const key of KEYS) {
        for (const source of ["pipeline", "script"]) {
          const expected = launched
            .filter((each) => each.run.source === source && mayReach(key, each))
            .map(({ run }) => run.run_id)
            .toReversed();
          for (const filter of ["", "status=completed", "label=all", "label=all&status=completed"]) {
            const found: string[] = [];
            let cursor: string | null = "";
            while (cursor !== null) {
              const path = `${baseOf(source)}/runs?limit=1&${filter}&cursor=${cursor}`;
              const { json } = await ask(key, "GET", path);
              // A page is as long as it may be: nothing is filtered out of it.
              expect(json.runs.length, path).toBe(Math.min(1, expected.length));
              found.push(...json.runs.map(({ run_id }: RunRecord) => run_id));
              cursor = json.next_cursor;
            }
            expect(found, `${source} ${filter} with ${key}`).toEqual(expected);
          }
          for (const filter of ["status=failed", "status=running", "label=none"]) {
            const { json } = await ask(key, "GET", `${baseOf(source)}/runs?${filter}`);
            expect(json, filter).toEqual({ runs: [], next_cursor: null });
          }
        }
      }
    });

    test("decides which recipes it lists, previews and launches; any other does not exist for it", async () => {
      for (const key of ["targets", "both"] as const) {
        const { json } = await ask(key, "GET", "/api/v1/pipelines/recipes");
        expect(json.recipes.map(({ recipe_id }: { recipe_id: string }) => recipe_id)).toEqual(["hello"]);
        for (const path of ["previews", "runs"]) {
          const refused = await ask(key, "POST", `/api/v1/pipelines/${path}`, { recipe_id: "other" });
          const unknown = await ask(key, "POST", `/api/v1/pipelines/${path}`, { recipe_id: "nosuch" });
          expect(plain(refused, "other")).toEqual(plain(unknown, "nosuch"));
          expect(refused.json.code).toBe("recipe_not_found");
        }
        expect((await ask(key, "POST", "/api/v1/pipelines/previews", { recipe_id: "hello" })).status).toBe(
          200,
        );
      }
      const { json } = await ask("own", "GET", "/api/v1/pipelines/recipes");
      expect(json.recipes).toHaveLength(2);
    });

    test("decides which scripts it lists, reads, previews and launches; any other is as one outside the roots", async () => {
      for (const key of ["targets", "both"] as const) {
        const paths = async (query: string) =>
          (await ask(key, "GET", `/api/v1/scripts${query}`)).json.scripts.map(
            (each: { path: string }) => each.path,
          );
        expect(await paths("")).toEqual([inRoot("ops/in.sh")]);
        expect(await paths(`?path=${inRoot("ops")}`)).toEqual([inRoot("ops/in.sh")]);
        for (const name of ["out.sh", "nosuch.sh", "ops/leads-out.sh", "ops/../out.sh"]) {
          for (const [method, path, body] of [
            ["GET", `/api/v1/scripts/content?path=${inRoot(name)}`],
            ["POST", "/api/v1/scripts/previews", { path: inRoot(name) }],
            ["POST", "/api/v1/scripts/runs", { path: inRoot(name) }],
          ] as const) {
            const refused = await ask(key, method, path, body);
            const outside = await ask(
              key,
              method,
              path.replace(inRoot(name), "/elsewhere/x.sh"),
              body && { path: "/elsewhere/x.sh" },
            );
            expect(plain(refused), `${method} ${path} ${name}`).toEqual(plain(outside));
            expect(refused.json.code).toBe("path_forbidden");
          }
        }
        const folder = await ask(key, "GET", `/api/v1/scripts?path=${inRoot("other")}`);
        const outside = await ask(key, "GET", "/api/v1/scripts?path=/elsewhere");
        expect(plain(folder)).toEqual(plain(outside));
        const missing = await ask(key, "GET", `/api/v1/scripts/content?path=${inRoot("ops/nosuch.sh")}`);
        expect(missing.json.code).toBe("script_not_found");
        for (const name of ["ops/in.sh", "leads-in.sh"]) {
          expect((await ask(key, "GET", `/api/v1/scripts/content?path=${inRoot(name)}`)).status, name).toBe(
            200,
          );
          expect((await ask(key, "POST", "/api/v1/scripts/previews", { path: inRoot(name) })).status).toBe(
            200,
          );
        }
      }
    });
  });
}

const OTHER_RECIPE = { recipe_id: "other", title: "Other", description: "", command: ["/bin/echo", "other"] };

/** The deployment with a key of each reach. */
function withKeys(deploy: Deploy): Deploy {
  return async (setup) => {
    const root = setup.env["HUB_SCRIPT_ROOTS"]!;
    const keys = KEYS.map((name) => ({ name, key: secretOf(name), scopes: ["*"], ...REACHES[name](root) }));
    await writeFile(setup.env["HUB_KEYS_FILE"]!, JSON.stringify({ keys }), { mode: 0o600 });
    return deploy(setup);
  };
}

/** An answer without what differs between two requests: their ids, and `name`, which each of them names. */
function plain({ status, headers, bytes }: Answer, name?: string) {
  const {
    request_id: _id,
    instance: _path,
    ...text
  } = JSON.parse(Buffer.from(bytes).toString()) as Record<string, unknown>;
  const shown = JSON.stringify(text);
  const kept = [...headers].filter(
    ([header]) => !["date", "x-request-id", "content-length"].includes(header),
  );
  return { status, headers: kept, text: name === undefined ? shown : shown.replaceAll(name, "NAME") };
}
