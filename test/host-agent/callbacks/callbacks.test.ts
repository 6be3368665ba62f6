import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Webhook } from "standardwebhooks";
import { describe, expect, onTestFinished, test } from "vitest";

import { startHub, until } from "../../support/hub.ts";
import { addRun, answerWith, endRun, receiver, SECRET, startCallbacks } from "./callbacks-world.ts";

const PIPELINES = "/api/v1/pipelines/runs";
const DAY_MS = 86_400_000;

const env = (hosts: string) => ({ HUB_CALLBACK_HOSTS: hosts, HUB_CALLBACK_SECRET: SECRET });

describe("a callback", () => {
  test("gives the final record of a run, signed, once the run has ended", async () => {
    const { received, origin } = await receiver();
    await using hub = await startHub({ env: env(`hooks.example.com, ${origin}`) });
    const path = await hub.script("job.sh", "exit 3");

    const { status, json } = await hub.post("/api/v1/scripts/runs", {
      path,
      label: "ünï",
      callback_url: `${origin}/hook?token=1`,
    });
    const record = await hub.ended(json);
    await until(() => received[0]);

    expect(status).toBe(201);
    expect(JSON.stringify(json)).not.toContain("token");
    const { headers, body, url } = received[0]!;
    expect(url).toBe("/hook?token=1");
    expect(headers).toMatchObject({ "content-type": "application/json", "webhook-id": json.run_id });
    expect(new Webhook(SECRET).verify(body, headers)).toEqual(record);
    expect(() => new Webhook(SECRET).verify(`${body} `, headers)).toThrow("No matching signature");
    expect(record).toMatchObject({ status: "failed", exit_code: 3, label: "ünï" });
  });

  test("is signed with the new and the old secret while the operator changes it", async () => {
    const { received, origin } = await receiver();
    const next = `whsec_${Buffer.alloc(32, "n").toString("base64")}`;
    await using hub = await startHub({ env: { ...env(origin), HUB_CALLBACK_SECRET: `${next}, ${SECRET}` } });

    const { json } = await hub.post(PIPELINES, { recipe_id: "hello", callback_url: origin });
    const { headers, body } = await until(() => received[0]);

    for (const secret of [next, SECRET]) {
      expect(new Webhook(secret).verify(body, headers)).toMatchObject({ run_id: json.run_id });
    }
    expect(() => new Webhook(`whsec_${"A".repeat(44)}`).verify(body, headers)).toThrow(
      "No matching signature",
    );
  });

  test("survives a stop of the agent before the end and before the delivery", async () => {
    const { received, origin } = await receiver((response, n) =>
      response.writeHead(n === 1 ? 500 : 204).end(),
    );
    await using hub = await startHub({ env: env(origin) });
    const go = join(hub.dir, "go");
    const path = await hub.script("job.sh", `until [ -e ${go} ]; do sleep 0.02; done`);
    const { json } = await hub.post("/api/v1/scripts/runs", { path, callback_url: origin });

    await hub.restart(() => writeFile(go, ""));
    await until(() => received[0]);
    await hub.restart();
    await until(() => received[1]);

    expect(received.map(({ headers }) => headers["webhook-id"])).toEqual([json.run_id, json.run_id]);
    expect(received[1]!.body).toBe(received[0]!.body);
  });

  test("is not made for a launch that started nothing, nor for a dry run", async () => {
    const { received, origin } = await receiver();
    const missing = { recipe_id: "missing", title: "M", description: "m", command: ["no-such-program"] };
    await using hub = await startHub({ env: env(origin), recipes: [missing] });

    const failed = await hub.post(PIPELINES, { recipe_id: "missing", callback_url: origin });
    const dry = await hub.post(PIPELINES, { recipe_id: "hello", callback_url: origin, dry_run: true });
    const real = await hub.post(PIPELINES, { recipe_id: "hello", callback_url: origin });
    await until(() => received[0]);

    expect([failed.status, dry.status, real.status]).toEqual([422, 200, 201]);
    expect(received.map(({ headers }) => headers["webhook-id"])).toEqual([real.json.run_id]);
  });

  test("goes over TLS, and not to a certificate that is not trusted", async () => {
    const { received, port } = await receiver(answerWith(200), { tls: true });
    const trusting = startCallbacks([`localhost:${port}`]);
    const wary = startCallbacks([`localhost:${port}`], { ca: undefined });
    const url = `https://localhost:${port}/`;
    const runId = addRun(trusting.runs, url);
    addRun(wary.runs, url);

    await Promise.all([trusting.round(), wary.round()]);

    expect(received.map(({ headers }) => headers["webhook-id"])).toEqual([runId]);
    expect(wary.log).toMatchObject([{ result: "DEPTH_ZERO_SELF_SIGNED_CERT" }]);
  });

  test("is repeated with growing pauses for a day, each time with the same id, signed again", async () => {
    const { received, origin } = await receiver(answerWith(503));
    const hub = startCallbacks([origin]);
    const runId = addRun(hub.runs, origin);
    const startedAt = hub.world.time;

    await hub.round();
    const pauses: number[] = [];
    for (let pause = await hub.next(); pause !== Infinity; pause = await hub.next()) pauses.push(pause);

    expect(pauses.slice(0, 7).map((ms) => ms / 1000)).toEqual([5, 15, 45, 135, 405, 1215, 3600]);
    expect(hub.world.time - startedAt).toBe(DAY_MS);
    expect(received).toHaveLength(pauses.length + 1);
    expect(new Set(received.map(({ headers }) => headers["webhook-id"]))).toEqual(new Set([runId]));
    expect(new Set(received.map(({ headers }) => headers["webhook-signature"])).size).toBe(received.length);
    expect(hub.log.at(-1)).toMatchObject({ run_id: runId, gave_up: true, result: "answered 503" });
    await hub.round();
    expect(received).toHaveLength(pauses.length + 1);
  });

  test("does not stop its retries for a clock that is set ahead, and does not wait for one that is set back", async () => {
    const { received, origin } = await receiver(answerWith(503));
    const hub = startCallbacks([origin]);
    addRun(hub.runs, origin);
    await hub.round();

    hub.world.time += 60 * DAY_MS;
    await hub.round();
    expect(received).toHaveLength(2);
    expect(hub.log.at(-1)).not.toHaveProperty("gave_up");

    hub.world.time -= 60 * DAY_MS;
    await hub.round();
    expect(received).toHaveLength(3);
    for (let pause = await hub.next(); pause !== Infinity; pause = await hub.next());
    expect(hub.log.at(-1)).toMatchObject({ gave_up: true });
    expect(received.length).toBeGreaterThan(24);
  });

  test.for([
    [200, 1],
    [299, 1],
    [410, 1],
    [300, 2],
    [404, 2],
    [429, 2],
    [500, 2],
  ])("answered with %i is sent %i times", async ([status, times]) => {
    const { received, origin } = await receiver((response, n) =>
      response.writeHead(n === 1 ? status! : 200).end("x".repeat(1_000_000)),
    );
    const hub = startCallbacks([origin]);
    addRun(hub.runs, origin);

    await hub.round();
    await hub.next();
    await hub.next();

    expect(received).toHaveLength(times!);
  });

  test("follows no redirect", async () => {
    const target = await receiver();
    const { received, origin } = await receiver((response, n) =>
      response.writeHead(n === 1 ? 307 : 200, { location: target.origin }).end(),
    );
    const hub = startCallbacks([origin]);
    addRun(hub.runs, origin);

    await hub.round();
    await hub.next();

    expect(received).toHaveLength(2);
    expect(target.received).toEqual([]);
  });

  test("waits for the end of its run, and continues in the next agent when one stops in the middle", async () => {
    const dir = await mkdtemp(join(tmpdir(), "hub-callback-"));
    onTestFinished(() => rm(dir, { recursive: true }));
    const path = join(dir, "runs.db");
    let isSilent = true;
    const { received, origin } = await receiver((response) => {
      if (!isSilent) response.writeHead(200).end();
    });
    const first = startCallbacks([origin], { path });
    const runId = addRun(first.runs, origin, { ended: false });
    await first.round();
    expect(received).toEqual([]);
    endRun(first.runs, runId);
    first.callbacks.startDue();
    await until(() => received[0]);

    await first.stop();
    isSilent = false;
    const second = startCallbacks([origin], { path });
    await second.round();
    expect(received).toHaveLength(1);
    await second.next();

    expect(received.map(({ headers }) => headers["webhook-id"])).toEqual([runId, runId]);
    expect(await second.next()).toBe(Infinity);
  });

  test("is sent by only one of two agents on one database", async () => {
    const dir = await mkdtemp(join(tmpdir(), "hub-callback-"));
    onTestFinished(() => rm(dir, { recursive: true }));
    const { received, origin } = await receiver();
    const agents = [1, 2].map(() => startCallbacks([origin], { path: join(dir, "runs.db") }));
    for (let n = 0; n < 8; n++) addRun(agents[0]!.runs, origin);

    for (let n = 0; n < 4; n++) await Promise.all(agents.map((agent) => agent.round()));

    const ids = received.map(({ headers }) => headers["webhook-id"]);
    expect(ids).toHaveLength(8);
    expect(new Set(ids).size).toBe(8);
  });

  test("to a receiver that hangs delays no other callback", async () => {
    const hanging = await receiver(() => {});
    const { received, origin } = await receiver();
    const hub = startCallbacks([hanging.origin, origin]);
    for (let n = 0; n < 20; n++) addRun(hub.runs, hanging.origin);
    const runId = addRun(hub.runs, origin);

    hub.callbacks.startDue();

    expect((await until(() => received[0])).headers["webhook-id"]).toBe(runId);
    expect(hanging.received.length).toBeLessThanOrEqual(4);
  });

  test("is not sent when the operator has set up none, or has removed the host", async () => {
    const { received, origin } = await receiver();
    const off = startCallbacks([origin], { secrets: [] });
    addRun(off.runs, origin);
    await off.round();
    const elsewhere = startCallbacks(["hooks.example.com"]);
    addRun(elsewhere.runs, origin);
    await elsewhere.round();

    expect(received).toEqual([]);
    expect(elsewhere.log).toMatchObject([{ result: expect.stringContaining("HUB_CALLBACK_HOSTS") }]);
  });
});
