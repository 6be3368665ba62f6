import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { type Deploy, OTHER, sharedHub, startHub, until } from "../../support/hub.ts";
import { TYPED } from "./typed-recipe.ts";

const PIPELINES = "/api/v1/pipelines/runs";
const SCRIPTS = "/api/v1/scripts/runs";

function ids({ runs }: { runs: { run_id: string }[] }): string[] {
  return runs.map(({ run_id }) => run_id);
}

/** A run that ends when the file exists. */
const UNTIL_FILE = 'until [ -e "$1" ]; do sleep 0.02; done; exit 3';

/** The options of a launch, as every deployment takes them. */
export function launchOptionsContract(deploy: Deploy): void {
  describe("Prefer: wait", () => {
    const shared = sharedHub({ deploy });

    test("a launch with Prefer: wait answers when the run ends", async () => {
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

    test("a launch with Prefer: wait answers at its deadline while the run goes on, and a replay waits too", async () => {
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

    test("a launch with Prefer: wait answers when the run is killed", async () => {
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
    ])("a Prefer header of %s means %s", async ([prefer, applied]) => {
      const hub = shared();
      const run = await hub.runScript("sleep 0");
      await hub.ended(run);

      const { status, headers } = await hub.get(`${SCRIPTS}/${run.run_id}`, { headers: { prefer: prefer! } });

      expect(status).toBe(200);
      expect(headers.get("preference-applied")).toBe(applied);
    });

    test("clients that disconnect while they wait affect neither the run nor later requests", async () => {
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

    test("a label is in the record and selects runs in the list, alone and with a status", async () => {
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

    test("a label selects a running run together with the status running", async () => {
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
      ["is not a text", 5],
      ["is null", null],
    ] as const)("a label that %s is refused", async ([, label]) => {
      const hub = shared();

      const { status, json } = await hub.post(PIPELINES, { recipe_id: "hello", label });

      expect(status).toBe(422);
      expect(json).toMatchObject({ errors: [{ path: "body.label" }] });
    });

    test("a label has up to 200 characters, counted as code points", async () => {
      const hub = shared();
      const label = "😀".repeat(200);

      const { status, json } = await hub.post(PIPELINES, { recipe_id: "hello", label });

      expect(status).toBe(201);
      expect(json.label).toBe(label);
    });

    test("a different label with the same Idempotency-Key is a different request", async () => {
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
}
