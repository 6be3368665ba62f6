import { readdir } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { type Deploy, type Hub, sharedHub, startHub } from "../../support/hub.ts";
import { ARGV, TYPED } from "./typed-recipe.ts";

const PIPELINES = "/api/v1/pipelines/runs";
const SCRIPTS = "/api/v1/scripts/runs";
const PIPELINE_PREVIEWS = "/api/v1/pipelines/previews";
const SCRIPT_PREVIEWS = "/api/v1/scripts/previews";

async function countRuns(hub: Hub): Promise<number> {
  const lists = await Promise.all([PIPELINES, SCRIPTS].map((base) => hub.get(`${base}?limit=500`)));
  return lists.reduce((sum, { json }) => sum + json.runs.length, 0);
}

const FAULTY = [
  [
    "no program",
    { recipe_id: "no-program", command: ["no-such-program"] },
    /program "no-such-program" was not found or is not executable/,
  ],
  ["no folder", { recipe_id: "no-cwd", cwd: "gone" }, /working folder does not exist/],
  ["a log folder that is a file", { recipe_id: "no-logs", log_dir: "recipes.json" }, /Cannot start it/],
] as const;

/** What a preview answers, and a dry run on the launch's own route, in every deployment. */
export function dryRunContract(deploy: Deploy): void {
  describe("a dry run", () => {
    const shared = sharedHub({ deploy, recipes: FAULTY.map(([, fault]) => ({ ...TYPED, ...fault })) });

    test("reports what a launch would do, and starts and records nothing", async () => {
      await using hub = await startHub({ deploy, recipes: [TYPED] });

      const body = { recipe_id: "typed", params: { limit: 5 }, args: "'a b'" };
      const { status, json, headers } = await hub.post(PIPELINE_PREVIEWS, body);
      const dry = await hub.post(PIPELINES, { ...body, dry_run: true });

      expect(status).toBe(200);
      expect(headers.get("location")).toBeNull();
      expect(json).toEqual({
        dry_run: true,
        source: "pipeline",
        would_start: true,
        reason: null,
        code: null,
        argv: [...ARGV, "--limit", "5", "--mode", "fast", "a b"],
        cmd: expect.stringMatching(/ argv --limit 5 --mode fast 'a b'$/),
        cwd: hub.dir,
        log_path_pattern: join(hub.stateDir, "logs/typed__YYYYMMDD_HHMMSS.log"),
        environment: expect.arrayContaining(["HOME", "HUB_RUN_ID", "PATH"]),
        terminal: false,
        spec_sha256: null,
        limits: { timeout_seconds: 60, max_running: 1, running: 0, host_max_running: 64, host_running: 0 },
      });
      expect({ status: dry.status, json: dry.json }, "clients of 1.0.0 ask the launch").toEqual({
        status,
        json,
      });
      expect(await countRuns(hub)).toBe(0);
      expect(await readdir(join(hub.stateDir, "runs"))).toEqual([]);
      expect(await readdir(join(hub.stateDir, "logs"), { recursive: true })).toEqual(["by-run"]);
    });

    test("of a script reports what the launch then does", async () => {
      const hub = shared();
      const path = await hub.script("job.sh", "env -0");
      const { json: preview } = await hub.post(SCRIPT_PREVIEWS, { path, args: "x" });

      const { json: run } = await hub.post(SCRIPTS, { path, args: "x" });
      await hub.ended(run);

      expect(preview).toMatchObject({ argv: [path, "x"], cmd: run.cmd, spec_sha256: run.spec_sha256 });
      expect(run.log_path).toMatch(
        new RegExp(`^${preview.log_path_pattern.replace("YYYYMMDD_HHMMSS", String.raw`\d{8}_\d{6}`)}$`),
      );
      const seen = [...(await hub.log(run)).matchAll(/^([A-Z_0-9]+)=|\0([A-Z_0-9]+)=/g)].map(
        (m) => m[1] ?? m[2],
      );
      expect(seen).toEqual(expect.arrayContaining(preview.environment));
    });

    test("does not consume its Idempotency-Key", async () => {
      const hub = shared();
      const headers = { "idempotency-key": "nightly" };
      const body = { recipe_id: "hello" };

      const dry = await hub.post(PIPELINES, { ...body, args: "x", dry_run: true }, { headers });
      const launched = await hub.post(PIPELINES, body, { headers });
      const dryAgain = await hub.post(PIPELINES, { ...body, dry_run: true }, { headers });
      const replayed = await hub.post(PIPELINES, { ...body, dry_run: false }, { headers });

      expect([dry.status, launched.status, dryAgain.status, replayed.status]).toEqual([200, 201, 200, 201]);
      expect(replayed.headers.get("idempotent-replayed")).toBe("true");
      expect(replayed.json.run_id).toBe(launched.json.run_id);
    });

    test.for(FAULTY)(
      "of a recipe with %s reports why it would not start",
      async ([, { recipe_id }, reason]) => {
        const hub = shared();

        const { status, json } = await hub.post(PIPELINE_PREVIEWS, { recipe_id });
        const launched = await hub.post(PIPELINES, { recipe_id });

        expect(status).toBe(200);
        const code = "launch_failed";
        expect(json).toMatchObject({ would_start: false, code, reason: expect.stringMatching(reason) });
        expect(launched).toMatchObject({ status: 422, json: { code } });
      },
    );

    test("reports when the limit of concurrent runs is reached", async () => {
      const sleeper = { ...TYPED, command: ["/bin/sleep", "300"], params: [] };
      await using hub = await startHub({ deploy, recipes: [sleeper] });
      const { json: run } = await hub.post(PIPELINES, { recipe_id: "typed" });

      const full = await hub.post(PIPELINE_PREVIEWS, { recipe_id: "typed" });
      await hub.kill(run, { signal: "SIGKILL" });
      await hub.ended(run);
      const free = await hub.post(PIPELINE_PREVIEWS, { recipe_id: "typed" });

      expect(full.json).toMatchObject({
        would_start: false,
        code: "too_many_runs",
        limits: { running: 1, host_running: 1 },
      });
      expect(free.json).toMatchObject({ would_start: true, limits: { running: 0, host_running: 0 } });
    });

    test("of a launch that is not allowed is refused like the launch", async () => {
      const hub = shared();
      const refusals = await Promise.all([
        hub.post(PIPELINES, { recipe_id: "none", dry_run: true }),
        hub.post(PIPELINES, { recipe_id: "hello", args: "'", dry_run: true }),
        hub.post(PIPELINES, { recipe_id: "hello", dry_run: "yes" }),
        hub.post(SCRIPTS, { path: "/etc/passwd", dry_run: true }),
        hub.post(SCRIPTS, { path: join(hub.root, "gone.sh"), dry_run: true }),
        hub.post(PIPELINES, { recipe_id: "hello", dry_run: true }, { headers: { "idempotency-key": "" } }),
      ]);
      expect(refusals.map(({ status }) => status)).toEqual([404, 422, 422, 403, 404, 400]);
      const previews = await Promise.all([
        hub.post(PIPELINE_PREVIEWS, { recipe_id: "none" }),
        hub.post(PIPELINE_PREVIEWS, { recipe_id: "hello", args: "'" }),
        hub.post(PIPELINE_PREVIEWS, { recipe_id: "hello", dry_run: false }),
        hub.post(SCRIPT_PREVIEWS, { path: "/etc/passwd" }),
        hub.post(SCRIPT_PREVIEWS, { path: join(hub.root, "gone.sh") }),
      ]);
      expect(previews.map(({ status }) => status)).toEqual([404, 422, 422, 403, 404]);
    });
  });
}
