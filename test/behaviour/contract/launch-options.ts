import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { type Deploy, type Hub, OTHER, sharedHub, startHub, until } from "../../support/hub.ts";

const PIPELINES = "/api/v1/pipelines/runs";
const SCRIPTS = "/api/v1/scripts/runs";

/** Prints its words as lines between angle brackets. */
const ARGV = ["/bin/sh", "-c", String.raw`printf '<%s>\n' "$@"`, "argv"];
const TYPED = {
  recipe_id: "typed",
  title: "Typed",
  description: "Takes parameters",
  command: ARGV,
  max_running: 1,
  timeout_seconds: 60,
  args_help: "any words\nare printed",
  params: [
    { name: "limit", type: "integer", minimum: 1, maximum: 10_000, description: "How many" },
    { name: "ratio", flag: "-r", type: "number" },
    { name: "mode", type: "enum", enum: ["fast", "full"], default: "fast" },
    { name: "name", type: "string", pattern: "[a-z-]+" },
    { name: "text", type: "string" },
    { name: "force", type: "boolean" },
  ],
};
const STRICT = {
  ...TYPED,
  recipe_id: "strict",
  args_help: undefined,
  params: [{ name: "input", type: "string", required: true }],
};

const UNKNOWN = "is not known here; this recipe has limit, ratio, mode, name, text, force";

async function wordsOf(hub: Hub, body: object): Promise<string[]> {
  const { status, json } = await hub.post(PIPELINES, { recipe_id: "typed", ...body });
  expect(status).toBe(201);
  await hub.ended(json);
  return [...(await hub.log(json)).matchAll(/<([^]*?)>\n/g)].map(([, word]) => word!);
}

function ids({ runs }: { runs: { run_id: string }[] }): string[] {
  return runs.map(({ run_id }) => run_id);
}

async function countRuns(hub: Hub): Promise<number> {
  const lists = await Promise.all([PIPELINES, SCRIPTS].map((base) => hub.get(`${base}?limit=500`)));
  return lists.reduce((sum, { json }) => sum + json.runs.length, 0);
}

/** A run that ends when the file is there. */
const UNTIL_FILE = 'until [ -e "$1" ]; do sleep 0.02; done; exit 3';

const FAULTY = [
  ["no program", { recipe_id: "no-program", command: ["no-such-program"] }, /no program "no-such-program"/],
  ["no folder", { recipe_id: "no-cwd", cwd: "gone" }, /working folder does not exist/],
  ["a log folder that is a file", { recipe_id: "no-logs", log_dir: "recipes.json" }, /Cannot start it/],
] as const;

/** The options of a launch, as every deployment takes them. */
export function launchOptionsContract(deploy: Deploy): void {
  describe("a dry run", () => {
    const shared = sharedHub({ deploy, recipes: FAULTY.map(([, fault]) => ({ ...TYPED, ...fault })) });

    test("tells what a launch would come to, and starts and records nothing", async () => {
      await using hub = await startHub({ deploy, recipes: [TYPED] });

      const { status, json, headers } = await hub.post(PIPELINES, {
        recipe_id: "typed",
        params: { limit: 5 },
        args: "'a b'",
        dry_run: true,
      });

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
      expect(await countRuns(hub)).toBe(0);
      expect(await readdir(join(hub.stateDir, "runs"))).toEqual([]);
      expect(await readdir(join(hub.stateDir, "logs"))).toEqual([]);
    });

    test("of a script says what the launch then does", async () => {
      const hub = shared();
      const path = await hub.script("job.sh", "env -0");
      const { json: preview } = await hub.post(SCRIPTS, { path, args: "x", dry_run: true });

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

    test("uses no Idempotency-Key up", async () => {
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

    test.for(FAULTY)("of a recipe with %s says why it would not start", async ([, { recipe_id }, reason]) => {
      const hub = shared();

      const { status, json } = await hub.post(PIPELINES, { recipe_id, dry_run: true });
      const launched = await hub.post(PIPELINES, { recipe_id });

      expect(status).toBe(200);
      const code = "launch_failed";
      expect(json).toMatchObject({ would_start: false, code, reason: expect.stringMatching(reason) });
      expect(launched).toMatchObject({ status: 422, json: { code } });
    });

    test("says when there is no room now", async () => {
      const sleeper = { ...TYPED, command: ["/bin/sleep", "300"], params: [] };
      await using hub = await startHub({ deploy, recipes: [sleeper] });
      const { json: run } = await hub.post(PIPELINES, { recipe_id: "typed" });

      const full = await hub.post(PIPELINES, { recipe_id: "typed", dry_run: true });
      await hub.kill(run, { signal: "SIGKILL" });
      await hub.ended(run);
      const free = await hub.post(PIPELINES, { recipe_id: "typed", dry_run: true });

      expect(full.json).toMatchObject({
        would_start: false,
        code: "too_many_runs",
        limits: { running: 1, host_running: 1 },
      });
      expect(free.json).toMatchObject({ would_start: true, limits: { running: 0, host_running: 0 } });
    });

    test("of what may not be launched is refused as the launch is", async () => {
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
    });
  });

  describe("Prefer: wait", () => {
    const shared = sharedHub({ deploy });

    test("answers a launch when the run ends", async () => {
      const hub = shared();
      const path = await hub.script("job.sh", "sleep 0.3; exit 3");

      const { status, json, headers } = await hub.post(
        SCRIPTS,
        { path },
        { headers: { prefer: 'respond-async; foo=bar, WAIT = "60", wait=1' } },
      );

      expect(status).toBe(201);
      expect(headers.get("preference-applied")).toBe("wait=60");
      expect(headers.get("location")).toBe(`${SCRIPTS}/${json.run_id}`);
      expect(json).toMatchObject({ status: "failed", exit_code: 3, ended_at: expect.any(Number) });
    });

    test("answers after the time when the run goes on, and a replay waits too", async () => {
      const hub = shared();
      const go = join(hub.dir, "go");
      const path = await hub.script("job.sh", UNTIL_FILE);
      const headers = { "idempotency-key": "k", prefer: "wait=1" };

      const first = await hub.post(SCRIPTS, { path, args: go }, { headers });
      const again = hub.post(SCRIPTS, { path, args: go }, { headers: { ...headers, prefer: "wait=30" } });
      const read = hub.get(`${SCRIPTS}/${first.json.run_id}`, { headers: { prefer: "wait=30" } });
      await writeFile(go, "");

      expect(first.json).toMatchObject({ status: "running", ended_at: null });
      expect(first.headers.get("preference-applied")).toBe("wait=1");
      const replayed = await again;
      expect(replayed.json).toMatchObject({ run_id: first.json.run_id, status: "failed", exit_code: 3 });
      expect(replayed.headers.get("idempotent-replayed")).toBe("true");
      expect((await read).json).toEqual(replayed.json);
      expect((await read).headers.get("preference-applied")).toBe("wait=30");
    });

    test("sees the end of a run that is killed", async () => {
      const hub = shared();
      const run = await hub.runScript("sleep 300");
      const waiting = hub.get(`${SCRIPTS}/${run.run_id}`, { headers: { prefer: "wait=30" } });

      await hub.kill(run);

      expect((await waiting).json).toMatchObject({ status: "killed", ended_at: expect.any(Number) });
    });

    test.for([
      ["wait=0", "wait=0"],
      ["wait=999999999999999999999", "wait=60"],
      ['foo="a, wait=9", wait=0', "wait=0"],
      ["return=minimal", null],
      ["wait", null],
      ["wait=", null],
      ["wait=-1", null],
      ["wait=1.5", null],
      ["wait=soon, wait=5", null],
      ["wait=1 0", null],
      ['foo="wait=5', null],
      [`${",".repeat(900)}${"x".repeat(200)}, wait=5`, null],
      [",,; =, wait=0", "wait=0"],
    ])("%s is taken as %s", async ([prefer, applied]) => {
      const hub = shared();
      const run = await hub.runScript("sleep 0");
      await hub.ended(run);

      const { status, headers } = await hub.get(`${SCRIPTS}/${run.run_id}`, { headers: { prefer: prefer! } });

      expect(status).toBe(200);
      expect(headers.get("preference-applied")).toBe(applied);
    });

    test("leaves the run alone and the next requests unharmed when clients hang up", async () => {
      await using hub = await startHub({ deploy });
      const go = join(hub.dir, "go");
      const path = await hub.script("job.sh", UNTIL_FILE);
      const client = new AbortController();
      const headers = { prefer: "wait=60" };
      const launch = hub.post(SCRIPTS, { path, args: go }, { headers, signal: client.signal });
      const run = await until(async () => (await hub.get(SCRIPTS)).json.runs[0]);
      const waiters = Array.from({ length: 20 }, () =>
        hub.get(`${SCRIPTS}/${run.run_id}`, { headers, signal: client.signal }),
      );

      client.abort();

      const outcomes = await Promise.allSettled([launch, ...waiters]);
      expect(new Set(outcomes.map((outcome) => outcome.status))).toEqual(new Set(["rejected"]));
      expect(await hub.run(run)).toMatchObject({ status: "running" });
      await writeFile(go, "");
      expect(await hub.ended(run)).toMatchObject({ exit_code: 3 });
    });
  });

  describe("a label", () => {
    const shared = sharedHub({ deploy });

    test("stands in the record, and finds the run again, alone and with a status", async () => {
      await using hub = await startHub({ deploy });
      const label = "nächtlich 🌙 #1, 100% & \"more\" \\ 'x'";
      const path = await hub.script("job.sh", "exit $1");
      const launch = async (args: string, of?: string) =>
        (await hub.post(SCRIPTS, { path, args, ...(of !== undefined && { label: of }) })).json;
      const good = await launch("0", label);
      const bad = await launch("3", label);
      const others = [
        await launch("0"),
        await launch("0", `${label}x`),
        await launch("0", label.toUpperCase()),
      ];
      await Promise.all([good, bad, ...others].map((run) => hub.ended(run)));
      const list = async (query: Record<string, string>, base = SCRIPTS) =>
        (await hub.get(`${base}?${new URLSearchParams(query).toString()}`)).json;

      expect(good.label).toBe(label);
      expect(others[0].label).toBeNull();
      expect(good.spec).toEqual({ path, args: "0" });
      expect(ids(await list({ label }))).toEqual([bad.run_id, good.run_id]);
      expect(ids(await list({ label, status: "failed" }))).toEqual([bad.run_id]);
      expect(ids(await list({ label, status: "running" }))).toEqual([]);
      expect(ids(await list({ label }, PIPELINES))).toEqual([]);
      expect(ids(await list({ label: "" }))).toHaveLength(5);
      const page = await list({ label, limit: "1" });
      expect(ids(page)).toEqual([bad.run_id]);
      expect(await list({ label, limit: "1", cursor: page.next_cursor })).toMatchObject({
        runs: [{ run_id: good.run_id }],
        next_cursor: null,
      });
    });

    test("of a run that is running is found with that status", async () => {
      const hub = shared();
      const path = await hub.script("job.sh", "sleep 300");
      const { json } = await hub.post(SCRIPTS, { path, label: "mine" });
      await hub.post(SCRIPTS, { path });

      const found = await hub.get(`${SCRIPTS}?status=running&label=mine`);

      expect(found.json.runs.map((run: { run_id: string }) => run.run_id)).toEqual([json.run_id]);
    });

    test.for([
      ["is empty", ""],
      ["has 201 characters", "x".repeat(201)],
      ["has a control character", "a\u0007b"],
      ["has a line break", "a\nb"],
      ["has a C1 control character", "a\u009bb"],
      ["has a line separator", "a\u2028b"],
      ["is no text", 5],
      ["is null", null],
    ] as const)("that %s is refused", async ([, label]) => {
      const hub = shared();

      const { status, json } = await hub.post(PIPELINES, { recipe_id: "hello", label });

      expect(status).toBe(422);
      expect(json).toMatchObject({ errors: [{ path: "body.label" }] });
    });

    test("has up to 200 characters, outside the basic plane too", async () => {
      const hub = shared();
      const label = "😀".repeat(200);

      const { status, json } = await hub.post(PIPELINES, { recipe_id: "hello", label });

      expect(status).toBe(201);
      expect(json.label).toBe(label);
    });

    test("is part of what an Idempotency-Key stands for", async () => {
      await using hub = await startHub({ deploy, recipes: [TYPED] });
      const headers = { "idempotency-key": "k" };
      const send = (body: object, how = {}) =>
        hub.post(PIPELINES, { recipe_id: "typed", ...body }, { headers, ...how });
      const first = await send({ label: "a", params: { limit: 1, force: true } });

      const same = await send({ params: { force: true, limit: 1 }, label: "a" });
      const answers = [
        await send({ label: "b", params: { limit: 1, force: true } }),
        await send({ params: { limit: 1, force: true } }),
        await send({ label: "a", params: { limit: 2, force: true } }),
      ];

      expect(same.json.run_id).toBe(first.json.run_id);
      expect(answers.map(({ json }) => json.code)).toEqual(Array(3).fill("idempotency_key_reused"));
      await hub.ended(first.json);
      expect((await send({ label: "b" }, { key: OTHER.key })).status).toBe(201);
    });
  });

  describe("parameters", () => {
    const shared = sharedHub({ deploy, recipes: [TYPED, STRICT] });

    test("stand in the recipe list with all that a form needs, and nothing of the command", async () => {
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

    test("become words before args, in the recipe's order, defaults included", async () => {
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

    test("a value that begins with a dash is never a word of its own", async () => {
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
    ] as const)("%j is refused with a message that names it", async ([params, name, message]) => {
      const hub = shared();

      const before = await countRuns(hub);
      const { status, json } = await hub.post(PIPELINES, { recipe_id: "typed", params });

      expect(status).toBe(422);
      expect(json.code).toBe("invalid_request");
      expect(json.errors).toEqual([{ path: `body.params.${name}`, message }]);
      expect(json.detail).toContain(`body.params.${name}: `);
      expect(await countRuns(hub)).toBe(before);
    });

    test("each of several wrong ones is named, as are a missing one and one by a name of the language", async () => {
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
      expect(script.json.errors).toEqual([{ path: "body.params", message: "is not known here" }]);
      expect(none.json.errors[0].message).toBe("is not known here; this recipe has no parameters");
    });
  });
}
