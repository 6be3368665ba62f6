import { once } from "node:events";
import { closeSync, openSync, renameSync, writeFileSync, writeSync } from "node:fs";
import { Agent, request } from "node:http";
import { connect } from "node:net";

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";

import { ALL, type Hub, OTHER, startHub, type TestKey, until } from "../../support/hub.ts";

const RUNS = "/api/v1/scripts/runs";
/** The promise is a second. */
const PROMISED_MS = 1_000;
const STAYS: TestKey = { name: "stays", key: "sk_test_stays_0123456789abcdef", scopes: ["*"] };

describe("a revoked key", () => {
  let hub: Hub;
  let run: { run_id: string; source: "script" };
  let go: string;
  beforeAll(async () => {
    hub = await startHub({ keys: [ALL, OTHER, STAYS] });
  });
  beforeEach(async () => {
    go = `${hub.dir}/go${Math.random()}`;
    replaceKeys(hub, [ALL, OTHER, STAYS]);
    await until(async () => (await statusFor(hub, ALL.key)) === 200 || undefined);
    run = (
      await hub.post(
        RUNS,
        {
          path: await hub.script("hold.sh", 'until test -e "$1"; do sleep 0.02; done; echo secret news'),
          args: go,
        },
        { key: STAYS.key },
      )
    ).json;
  });
  afterAll(() => hub[Symbol.asyncDispose]());

  const runUrl = () => `${RUNS}/${run.run_id}`;
  const finish = async () => {
    writeFileSync(go, "");
    await until(
      async () => (await hub.get(runUrl(), { key: STAYS.key })).json.ended_at !== null || undefined,
    );
  };

  test("reads nothing more with a request that was waiting for a log or for the end of a run", async () => {
    const held = [
      hub.get(`${runUrl()}/logs?wait=20`),
      hub.get(`${runUrl()}/logs?wait=20`, { headers: { accept: "text/plain" } }),
      hub.get(runUrl(), { headers: { prefer: "wait=20" } }),
      hub.ask("HEAD", runUrl(), { headers: { prefer: "wait=20" } }),
    ];
    const kept = hub.get(`${runUrl()}/logs?wait=20`, { key: STAYS.key });
    replaceKeys(hub, [STAYS]);
    await refusedFrom(hub, ALL.key);
    await passed(PROMISED_MS);
    await finish();

    for (const { status, bytes } of await Promise.all(held)) {
      expect(status).toBe(401);
      expect(Buffer.from(bytes).toString()).not.toContain("secret news");
    }
    expect(await kept).toMatchObject({ status: 200, json: { chunk: "secret news\n" } });
  });

  test("keeps its launched run, and a waiting answer reports its start but not its end, also of a replay", async () => {
    const path = await hub.script("wait.sh", 'until test -e "$1"; do sleep 0.02; done');
    const headers = { prefer: "wait=20", "idempotency-key": go };
    const launch = () => hub.post(RUNS, { path, args: go }, { headers });
    const launched = launch();
    await until(async () => (await hub.get(`${RUNS}?status=running`, { key: STAYS.key })).json.runs[1]);
    const replayed = launch();
    await passed(PROMISED_MS / 2);
    replaceKeys(hub, [STAYS]);
    await refusedFrom(hub, ALL.key);
    await passed(PROMISED_MS);
    await finish();

    const [first, again] = await Promise.all([launched, replayed]);
    for (const answer of [first, again]) {
      expect(answer).toMatchObject({
        status: 201,
        json: { status: "running", ended_at: null, exit_code: null },
      });
      expect(answer.headers.get("preference-applied")).toBeNull();
    }
    expect(again.json.run_id).toBe(first.json.run_id);
    const known = await hub.get(`${RUNS}/${first.json.run_id}`, { key: STAYS.key });
    expect(known.json.status).toBe("completed");
  });

  test("starts nothing with a body that arrives slowly", async () => {
    const before = (await hub.get(RUNS, { key: STAYS.key })).json.runs.length;
    const body = JSON.stringify({ path: await hub.script("late.sh", "true") });
    const { hostname, port } = new URL(hub.url);
    const socket = connect(Number(port), hostname);
    const closed = once(socket, "close");
    let answer = "";
    socket.on("data", (chunk) => (answer += String(chunk)));
    socket.write(
      `POST ${RUNS} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${ALL.key}\r\nConnection: close\r\nExpect: 100-continue\r\n` +
        `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body.slice(0, 9)}`,
    );
    await until(() => answer.includes("\r\n\r\n") || undefined);
    // The head has arrived. A request that is admitted after it proves that the key was good for it too.
    expect(await statusFor(hub, ALL.key)).toBe(200);
    expect(answer).toBe("HTTP/1.1 100 Continue\r\n\r\n");
    replaceKeys(hub, [STAYS]);
    await refusedFrom(hub, ALL.key);
    await passed(PROMISED_MS);
    socket.write(body.slice(9));
    await closed;
    expect(answer).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 401 /);
    expect((await hub.get(RUNS, { key: STAYS.key })).json.runs).toHaveLength(before);
    await finish();
  });

  test("is refused on its open connection, which still serves other keys", async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const ask = (key: string) =>
      new Promise<{ status: number; port: number }>((resolve, reject) => {
        const outgoing = request(hub.url + RUNS, { agent, headers: { authorization: `Bearer ${key}` } });
        outgoing.on("error", reject);
        outgoing.on("response", (incoming) => {
          const port = incoming.socket.localPort!;
          incoming.resume().on("end", () => resolve({ status: incoming.statusCode!, port }));
        });
        outgoing.end();
      });
    const first = await ask(ALL.key);
    replaceKeys(hub, [STAYS]);
    await refusedFrom(hub, ALL.key);
    expect(await ask(ALL.key)).toEqual({ status: 401, port: first.port });
    expect(await ask(STAYS.key)).toEqual({ status: 200, port: first.port });
    agent.destroy();
    await finish();
  });
});

describe("a keys file that changes continuously", () => {
  /** Ways to write a file, of which only the first is right. */
  const WRITES: ((hub: Hub, keys: TestKey[]) => Promise<void>)[] = [
    async (hub, keys) => replaceKeys(hub, keys),
    // Cut off, and written in two pieces with a moment in between.
    async ({ keysFile }, keys) => {
      const text = JSON.stringify({ keys });
      const file = openSync(keysFile, "w");
      writeSync(file, text.slice(0, text.length / 2));
      await passed(4);
      writeSync(file, text.slice(text.length / 2));
      closeSync(file);
    },
    // A broken one takes its place for a moment.
    async (hub, keys) => {
      writeFileSync(`${hub.keysFile}.half`, '{"keys": [');
      renameSync(`${hub.keysFile}.half`, hub.keysFile);
      await passed(4);
      replaceKeys(hub, keys);
    },
  ];

  test("refuses no valid key, and accepts none that is unknown or was revoked more than a second ago", async () => {
    await using hub = await startHub({ keys: [STAYS, ALL] });
    /** When a key was taken away; Infinity while it is in the file. */
    const revokedAt = new Map([
      [ALL.key, Infinity],
      [OTHER.key, 0],
    ]);
    const faults: string[] = [];
    let asked = 0;
    let swaps = 0;
    const isOver = () => swaps >= 100;

    async function client(key: string): Promise<void> {
      while (!isOver()) {
        const sentAt = performance.now();
        const goneAt = revokedAt.get(key);
        const status = await statusFor(hub, key);
        asked++;
        if (key === STAYS.key && status !== 200) faults.push(`a good key got ${status}`);
        if (key === "sk_never" && status !== 401) faults.push(`a key of nobody got ${status}`);
        // More than the promise, for a look may meet a file that is half written.
        if (goneAt !== undefined && sentAt - goneAt > 1.5 * PROMISED_MS && status !== 401) {
          faults.push(`a key revoked ${sentAt - goneAt} ms before got ${status}`);
        }
        await passed(5);
      }
    }

    async function operator(): Promise<void> {
      for (; !isOver(); swaps++) {
        const [there, gone] = swaps < 30 ? [ALL, OTHER] : [OTHER, ALL];
        revokedAt.set(there.key, Infinity);
        await WRITES[swaps % WRITES.length]!(hub, [STAYS, there]);
        if (revokedAt.get(gone.key) === Infinity) revokedAt.set(gone.key, performance.now());
        await passed(swaps < 30 ? 5 : 25);
      }
    }

    await Promise.all([operator(), ...[STAYS.key, ALL.key, OTHER.key, "sk_never"].map(client)]);
    expect(faults).toEqual([]);
    expect(asked).toBeGreaterThan(200);
    replaceKeys(hub, [STAYS]);
    await refusedFrom(hub, ALL.key);
    await refusedFrom(hub, OTHER.key);
    expect((await hub.get("/healthz", { key: STAYS.key })).json).toMatchObject({
      status: "ok",
      mode: "enforced",
    });
  });
});

function replaceKeys({ keysFile }: Hub, keys: TestKey[]): void {
  writeFileSync(`${keysFile}.draft`, JSON.stringify({ keys }), { mode: 0o600 });
  renameSync(`${keysFile}.draft`, keysFile);
}

/** Without the check against the document, and without a list of runs, for tests that ask thousands of times. */
async function statusFor(hub: Hub, key: string): Promise<number> {
  const response = await fetch(`${hub.url}/api/v1/pipelines/recipes`, {
    headers: { authorization: `Bearer ${key}` },
  });
  await response.arrayBuffer();
  return response.status;
}

function refusedFrom(hub: Hub, key: string): Promise<true> {
  return until(async () => (await statusFor(hub, key)) === 401 || undefined, 3 * PROMISED_MS);
}

function passed(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
