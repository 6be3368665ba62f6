import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";

import { Webhook } from "standardwebhooks";
import { describe, expect, onTestFinished, test, vi } from "vitest";

import { isPublicAddress, parseCallbackHost } from "../../../host-agent/callbacks/callback-rules.ts";
import { type CallbackDeps, createCallbacks, type Resolve } from "../../../host-agent/callbacks/callbacks.ts";
import { readAgentConfig } from "../../../host-agent/config.ts";
import { openRunStore, type RunStore } from "../../../host-agent/store/run-store.ts";
import { publicRun } from "../../../host-agent/runs/record.ts";
import { startHub, until } from "../../support/hub.ts";

const SECRET = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;
/** Key and certificate of localhost and 127.0.0.1. */
const PEM = readFileSync(new URL("../../adapters/cli/fixtures/self-signed.pem", import.meta.url), "utf8");
const PIPELINES = "/api/v1/pipelines/runs";
const DAY_MS = 86_400_000;

interface Received {
  headers: Record<string, string>;
  body: string;
  url: string;
}

type Answer = (response: ServerResponse, count: number) => void;
const answerWith =
  (status: number, headers = {}): Answer =>
  (response) =>
    void response.writeHead(status, headers).end();

/** A receiver on loopback that keeps what it is sent. */
async function receiver(answer: Answer = answerWith(204), { tls = false } = {}) {
  const received: Received[] = [];
  const serve = async (request: IncomingMessage, response: ServerResponse) => {
    const headers = request.headers as Record<string, string>;
    received.push({ headers, body: String(await buffer(request)), url: request.url! });
    answer(response, received.length);
  };
  const listener = (request: IncomingMessage, response: ServerResponse) =>
    void serve(request, response).catch(() => response.destroy());
  const server: Server = tls ? createTlsServer({ key: PEM, cert: PEM }, listener) : createServer(listener);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { received, port, origin: `${tls ? "https" : "http"}://127.0.0.1:${port}` };
}

/** The callbacks over a database, with a clock, a chance and a resolver that the test has in its hands. */
function startCallbacks(hosts: string[], options: Partial<CallbackDeps> & { path?: string } = {}) {
  const runs = openRunStore(options.path ?? ":memory:");
  const world = { time: Date.now() };
  const log: Record<string, unknown>[] = [];
  const callbacks = createCallbacks({
    store: runs.callbacks,
    hosts: hosts.map((host) => parseCallbackHost(host)!),
    secret: SECRET,
    record: (runId) => publicRun(runs.get(runId)!),
    log: (entry) => log.push(entry),
    now: () => world.time,
    random: () => 1,
    ca: PEM,
    ...options,
  });
  const stop = async () => {
    await callbacks.close();
    if (isOpen) runs.close();
    isOpen = false;
  };
  let isOpen = true;
  onTestFinished(stop);
  return {
    runs,
    log,
    world,
    callbacks,
    stop,
    /** Makes the attempts that are due now, and waits for them. */
    async round(): Promise<void> {
      callbacks.startDue();
      await callbacks.settled();
    },
    /** Lets the time of the next attempt come, and makes it. Returns the pause in milliseconds. */
    async next(): Promise<number> {
      const [due] = runs.callbacks.due(Number.MAX_SAFE_INTEGER, 1);
      if (!due) return Infinity;
      const pause = due.next_attempt_at - world.time;
      world.time = due.next_attempt_at;
      await this.round();
      return pause;
    },
  };
}

let count = 0;
/** A run in the database, which has ended unless told otherwise. */
function addRun(runs: RunStore, url: string, { ended = true } = {}): string {
  const run_id = `run_${String(++count).padStart(12, "0")}`;
  runs.insertOrFind(
    {
      run_id,
      source: "script",
      spec: '{"path":"/a.sh","args":""}',
      cmd: "/a.sh",
      log_path: "/a.log",
      key_name: "k",
      spec_sha256: null,
      label: null,
      started_at: Date.now(),
      fingerprint: "f",
      timeout_seconds: null,
      log_limit: null,
      launch_token: run_id,
      launcher: { pid: 1, startTime: "1", bootId: "b" },
      callback_url: url,
    },
    0,
    () => {},
  );
  if (ended) runs.update(run_id, { status: "completed", exit_code: 0, ended_at: Date.now() });
  return run_id;
}

const toLoopback: Resolve = async () => [{ address: "127.0.0.1", family: 4 }];

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

  test("is repeated with growing pauses for a day, each time with the same id, signed anew", async () => {
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

  test("waits for the end of its run, and goes on in the next agent when one stops in the middle", async () => {
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
    first.runs.update(runId, { status: "completed", exit_code: 0, ended_at: Date.now() });
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

  test("is taken by one of two agents on one database", async () => {
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

  test("of a receiver that hangs holds up no other", async () => {
    const hanging = await receiver(() => {});
    const { received, origin } = await receiver();
    const hub = startCallbacks([hanging.origin, origin]);
    for (let n = 0; n < 20; n++) addRun(hub.runs, hanging.origin);
    const runId = addRun(hub.runs, origin);

    hub.callbacks.startDue();

    expect((await until(() => received[0])).headers["webhook-id"]).toBe(runId);
    expect(hanging.received.length).toBeLessThanOrEqual(4);
  });

  test("is not sent where the operator has set up none, or has taken the host away", async () => {
    const { received, origin } = await receiver();
    const off = startCallbacks([origin], { secret: undefined });
    addRun(off.runs, origin);
    await off.round();
    const elsewhere = startCallbacks(["hooks.example.com"]);
    addRun(elsewhere.runs, origin);
    await elsewhere.round();

    expect(received).toEqual([]);
    expect(elsewhere.log).toMatchObject([{ result: expect.stringContaining("HUB_CALLBACK_HOSTS") }]);
  });
});

describe("a callback goes to no address that was not meant", () => {
  test.for([
    ["http://hooks.example.com/"],
    ["https://hooks.example.com:8443/"],
    ["https://hooks.example.com./"],
    ["https://evil.example.com/"],
    ["https://hooks.example.com.evil.example/"],
    ["https://hooks.example.com@evil.example/"],
    ["https://user:pass@hooks.example.com/"],
    ["https://evil.example\\@hooks.example.com/"],
    ["https://evil.example#@hooks.example.com/"],
    ["https://hooks.example.com/#fragment"],
    ["https://hooks.example.com%2eevil.example/"],
    ["https://127.0.0.1/"],
    ["https://2130706433/"],
    ["https://0x7f.1/"],
    ["https://[::1]/"],
    ["https://[::ffff:127.0.0.1]/"],
    ["https://169.254.169.254/latest/meta-data"],
    ["http://localhost:9001/"],
    ["https://localhost:9000/"],
    ["ftp://hooks.example.com/"],
    ["file:///etc/passwd"],
    ["javascript:alert(1)"],
    ["//hooks.example.com/"],
    ["hooks.example.com"],
    [`https://hooks.example.com/${"x".repeat(2_048)}`],
    [""],
  ])("%s is refused at the launch", async ([callback_url]) => {
    await using hub = await startHub({ env: env("hooks.example.com,http://127.0.0.1:9000") });

    const { status, json } = await hub.post(PIPELINES, { recipe_id: "hello", callback_url });

    expect(status).toBe(422);
    expect(json.errors).toMatchObject([{ path: "body.callback_url" }]);
    // Which hosts there are is nobody's business but the operator's.
    expect(json.detail).not.toContain("example");
    expect((await hub.get(PIPELINES)).json.runs).toEqual([]);
  });

  test("where no host is listed every URL is refused, and says so", async () => {
    await using hub = await startHub();

    const { json } = await hub.post(PIPELINES, { recipe_id: "hello", callback_url: "https://example.com/" });

    expect(json.errors).toEqual([
      { path: "body.callback_url", message: "is not taken: this Hub has no hosts that it may call back" },
    ]);
  });

  test.for([
    ["127.0.0.1", 4],
    ["10.1.2.3", 4],
    ["169.254.169.254", 4],
    ["100.64.0.1", 4],
    ["0.0.0.0", 4],
    ["::1", 6],
    ["::ffff:127.0.0.1", 6],
    ["::ffff:7f00:1", 6],
    ["fe80::1", 6],
    ["fd00:ec2::254", 6],
    ["64:ff9b::7f00:1", 6],
    ["2002:7f00:1::", 6],
  ] as const)("a listed name that resolves to %s is not called", async ([address, family]) => {
    const { received, port } = await receiver(answerWith(200), { tls: true });
    const resolve: Resolve = async () => [
      { address: "93.184.216.34", family: 4 },
      { address, family },
    ];
    const hub = startCallbacks([`hooks.example.com:${port}`], { resolve });
    addRun(hub.runs, `https://hooks.example.com:${port}/`);

    await hub.round();

    expect(received).toEqual([]);
    expect(hub.log).toMatchObject([{ result: "the name resolves to an address that is not public" }]);
  });

  test("a name is resolved once, and the connection goes to what was checked", async () => {
    const { received, port } = await receiver(answerWith(200), { tls: true });
    const resolve = vi.fn<Resolve>(toLoopback);
    // Flagged, so that an address of this machine may stand for a checked one.
    const hub = startCallbacks([`localhost:${port}+private`], { resolve });
    addRun(hub.runs, `https://localhost:${port}/`);

    await hub.round();

    expect(received).toHaveLength(1);
    expect(resolve).toHaveBeenCalledTimes(1);
  });

  test("a name that resolves to a private address is called where the operator flags it so", async () => {
    const { received, port } = await receiver();
    const resolve = toLoopback;
    const url = `http://ci.corp.example:${port}/`;
    const flagged = startCallbacks([`http://ci.corp.example:${port}+private`], { resolve });
    const plain = startCallbacks([`http://ci.corp.example:${port}`], { resolve });
    addRun(plain.runs, url);
    await plain.round();
    expect(received).toEqual([]);

    addRun(flagged.runs, url);
    await flagged.round();

    expect(received).toHaveLength(1);
  });

  test("public addresses are told from others", () => {
    expect(["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1"].map(isPublicAddress)).toEqual([
      true,
      true,
      true,
    ]);
    const others = [
      "192.168.0.1",
      "172.31.255.255",
      "224.0.0.1",
      "255.255.255.255",
      "::",
      "ff02::1",
      "2001:db8::1",
      "x",
    ];
    expect(others.filter(isPublicAddress)).toEqual([]);
  });
});

describe("the settings of callbacks", () => {
  test.for([
    ["hooks.example.com", "https:", "hooks.example.com", "", false],
    ["HOOKS.example.com:8443", "https:", "hooks.example.com", "8443", false],
    ["https://hooks.example.com:443", "https:", "hooks.example.com", "", false],
    ["http://127.0.0.1:9000", "http:", "127.0.0.1", "9000", true],
    ["[::1]:9000", "https:", "[::1]", "9000", true],
    ["http://localhost:80", "http:", "localhost", "", true],
    ["ci.corp+private", "https:", "ci.corp", "", true],
    ["bücher.example", "https:", "xn--bcher-kva.example", "", false],
  ] as const)("%s is taken", ([entry, protocol, hostname, port, mayBePrivate]) => {
    expect(readAgentConfig(env(` ${entry} ,`)).callbacks.hosts).toEqual([
      { protocol, hostname, port, mayBePrivate },
    ]);
  });

  test.for([
    "https://a.example/path",
    "ftp://a.example",
    "*.example.com",
    "a b",
    "user@a.example",
    "a.example:99999",
    "a?b",
  ])("%s stops the start", (entry) => {
    expect(() => readAgentConfig(env(entry))).toThrow(/^HUB_CALLBACK_HOSTS: must be hosts like/);
  });

  test.for([undefined, "", "sk_live_hidden", "whsec_aGlkZGVu", "whsec_hidden!".padEnd(50, "x")])(
    "a secret %s stops the start, and is not shown",
    (secret) => {
      const values = { HUB_CALLBACK_HOSTS: "a.example", HUB_CALLBACK_SECRET: secret };
      expect(() => readAgentConfig(values)).toThrow(/^HUB_CALLBACK_SECRET: must be (?!.*(?:hidden|aGlk))/);
    },
  );

  test("no hosts need no secret", () => {
    expect(readAgentConfig({}).callbacks).toEqual({ hosts: [], secret: undefined });
  });
});
