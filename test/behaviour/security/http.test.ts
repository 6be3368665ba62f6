import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { ALL, type Hub, OTHER, startHub, until } from "../../support/hub.ts";
import { servedDocument } from "../../support/openapi-check.ts";
import { rawRequest } from "../../support/raw-socket.ts";

const RUNS = "/api/v1/pipelines/runs";
const HOST = "Host: localhost\r\n";
const AUTH = `Authorization: Bearer ${ALL.key}\r\n`;
const JSON_TYPE = "Content-Type: application/json\r\n";
const RUN = "run_a1b2c3d4e5f6";

describe("a client without a key", () => {
  let hub: Hub;
  beforeAll(async () => {
    hub = await startHub();
  });
  afterAll(() => hub[Symbol.asyncDispose]());

  const launchWith = (headers: string) => {
    const body = '{"recipe_id":"hello"}';
    return rawRequest(
      hub.url,
      `POST ${RUNS} HTTP/1.1\r\n${HOST}${AUTH}${JSON_TYPE}${headers}Content-Length: ${body.length}\r\n\r\n${body}`,
    );
  };

  test("that sends two Idempotency-Keys is refused, and nothing starts", async () => {
    const before = await runIds(hub);
    for (const headers of [
      "Idempotency-Key: a\r\nIdempotency-Key: b\r\n",
      "Idempotency-Key: a\r\nidempotency-KEY: a\r\n",
      "Idempotency-Key: a\r\nX-Between: 1\r\nIdempotency-Key: \r\n",
    ]) {
      const answer = await launchWith(headers);
      expect(JSON.parse(answer.body)).toMatchObject({
        status: 400,
        code: "malformed_request",
        detail: expect.stringContaining("header.idempotency-key"),
      });
    }
    expect(await runIds(hub)).toEqual(before);
    expect((await launchWith("Idempotency-Key: a, b\r\n")).status, "one key may hold a comma").toBe(201);
  });

  test("finds no path that avoids the check of keys, on any route with any method", async () => {
    const { paths } = await servedDocument(hub.url);
    const routes = Object.keys(paths)
      .filter((path) => path.startsWith("/api/"))
      .map((path) => path.replace("{run_id}", RUN));
    for (const path of routes) {
      for (const method of ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]) {
        const requests = detours(path).map(
          (target) => `${method} ${target} HTTP/1.1\r\n${HOST}Content-Length: 0\r\n\r\n`,
        );
        const text = await answersTo(hub.url, requests);
        const statuses = [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => Number(status));
        expect(statuses.length, `${method} ${path}`).toBeGreaterThan(0);
        for (const status of statuses) {
          expect([400, 401, 404, 405], `${method} ${path} was answered with ${status}`).toContain(status);
        }
      }
    }
  });

  test("is refused a body that is deep, wide, huge in numbers or compressed, and the next request is served", async () => {
    const wide = Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`k${i}`, 1]));
    const bodies = [
      "[".repeat(65_000),
      `${"[".repeat(32_000)}${"]".repeat(32_000)}`,
      `${'{"a":'.repeat(10_000)}1${"}".repeat(10_000)}`,
      `{"recipe_id": ${"[".repeat(30_000)}${"]".repeat(30_000)}}`,
      `{"recipe_id": ${"9".repeat(60_000)}}`,
      '{"recipe_id": 1e999999}',
      `{"recipe_id": "hello", "__proto__": {"terminal": true}}`,
      JSON.stringify(wide),
    ];
    for (const body of bodies) {
      const { status, bytes } = await hub.post(RUNS, body);
      expect([400, 422], body.slice(0, 40)).toContain(status);
      expect(bytes.length, "the answer does not grow with what was sent").toBeLessThan(8_192);
    }
    for (const encoding of ["gzip", "br", "deflate", "identity, gzip"]) {
      const { status } = await hub.post(RUNS, "{}", { headers: { "content-encoding": encoding } });
      expect(status, encoding).toBe(415);
    }
    expect((await hub.get("/healthz")).status).toBe(200);
  });

  test("is cut off when its connections stay half open, and blocks no other client", async () => {
    const sockets = await Promise.all(
      Array.from({ length: 300 }, () => open(hub.url, `GET ${RUNS} HTTP/1.1\r\nHost: a`)),
    );
    expect((await hub.get(RUNS)).status).toBe(200);
    expect((await hub.post(RUNS, { recipe_id: "none" })).status).toBe(404);
    await until(() => sockets.every((socket) => socket.closed) || undefined, 20_000);
  });

  test("puts its names for itself and its requests on one line of the log and in no header", async () => {
    for (const id of ["a\x1b[31mred", "a\u0085b", "a".repeat(200), "x\ty"]) {
      const answer = await rawRequest(hub.url, `GET /healthz HTTP/1.1\r\n${HOST}X-Request-Id: ${id}\r\n\r\n`);
      // Node itself refuses what no header may hold.
      const shown = answer.headers.get("x-request-id");
      expect([200, 400]).toContain(answer.status);
      expect(shown, JSON.stringify(id)).toMatch(/^[0-9a-f-]{36}$/);
    }
    const { json } = await hub.post(RUNS, {
      recipe_id: "hello",
      args: "'a\n{\"level\":\"info\"}' '\x1b[2J' '\u202e'",
    });
    expect(json.status_reason).not.toMatch(/\p{Cc}/u);
    await hub.ended(json);

    const audited = () => readFileSync(join(hub.stateDir, "audit.log"), "utf8").trimEnd().split("\n");
    const before = audited().length;
    const name = 'a\n{"event":"forged"}\r\u2028.sh';
    const script = await hub.post("/api/v1/scripts/runs", {
      path: await hub.script(name, "true"),
      args: "'\n'",
    });
    expect(script.json.log_path).toMatch(/^[ -~]+$/);
    await hub.ended(script.json);
    const lines = audited();
    expect(lines.length - before, "one line for one launch").toBe(1);
    for (const line of lines) expect(JSON.parse(line)).not.toMatchObject({ event: "forged" });
  });
});

describe("an Idempotency-Key", () => {
  test("reveals no run to another client, and is shared only by keys of one name", async () => {
    const renewed = { ...ALL, key: "sk_test_all_renewed_0123456789" };
    await using hub = await startHub({ keys: [ALL, OTHER, renewed] });
    const launch = (key: string) =>
      hub.post(RUNS, { recipe_id: "hello" }, { key, headers: { "idempotency-key": "nightly" } });
    const [mine, theirs, rotated] = [
      await launch(ALL.key),
      await launch(OTHER.key),
      await launch(renewed.key),
    ];
    expect(theirs.json.run_id).not.toBe(mine.json.run_id);
    expect(theirs.headers.get("idempotent-replayed")).toBeNull();
    expect(rotated.json.run_id, "a key that replaces another under its name").toBe(mine.json.run_id);
    await Promise.all([mine, theirs].map(({ json }) => hub.ended(json)));
  });
});

describe("dev mode, for a page in a browser on this machine", () => {
  test("refuses pages whose browser names their origin, with every kind of request", async () => {
    await using hub = await startHub({ keys: [] });
    const { host, port } = new URL(hub.url);
    const post = (headers: string, target = `${RUNS}/${RUN}/kill`) =>
      rawRequest(hub.url, `POST ${target} HTTP/1.1\r\n${headers}Content-Length: 0\r\n\r\n`);
    const foreign = [
      `Host: ${host}\r\nOrigin: https://evil.example\r\n`,
      `Host: ${host}\r\nOrigin: null\r\n`,
      `Host: ${host}\r\nOrigin: http://127.0.0.1.evil.example\r\n`,
      `Host: ${host}\r\nOrigin: http://localhost@evil.example\r\n`,
      `Host: rebound.evil.example:${port}\r\n`,
    ];
    for (const headers of foreign) {
      expect(JSON.parse((await post(headers)).body), headers).toMatchObject({
        status: 403,
        code: "local_only",
      });
    }
    for (const headers of [`Host: ${host}\r\n`, `Host: ${host}\r\nOrigin: http://localhost:3000\r\n`]) {
      expect((await post(headers)).status, headers).toBe(404);
    }
    const simple = await rawRequest(
      hub.url,
      `POST ${RUNS} HTTP/1.1\r\nHost: ${host}\r\nContent-Type: text/plain\r\nContent-Length: 21\r\n\r\n{"recipe_id":"hello"}`,
    );
    expect(simple.status, "what a form can send").toBe(415);
    expect((await hub.get(RUNS)).json.runs).toEqual([]);
  });
});

/** Opens a connection and sends the beginning of a request. */
function open(url: string, text: string): Promise<Socket> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.on("error", () => {});
  socket.resume();
  return new Promise((resolve) => {
    socket.write(text, () => resolve(socket));
  });
}

async function runIds(hub: Hub): Promise<string[]> {
  return (await hub.get(RUNS)).json.runs.map(({ run_id }: { run_id: string }) => run_id);
}

/** The status lines of the answers, each request on a separate connection. */
async function answersTo(url: string, requests: string[]): Promise<string> {
  const answers = await Promise.all(
    requests.map((request) => rawRequest(url, request, { isEnough: hasHead })),
  );
  return answers.map(({ text }) => text.slice(0, text.indexOf("\r\n"))).join("\n");
}

const hasHead = (text: string) => text.includes("\r\n\r\n");

/** Ways to a path that a careless reader takes for another one. */
const detours = (path: string) => [
  `/healthz/..${path}`,
  `/openapi.json/%2e%2e${path}`,
  `/healthz/.%2E${path}`,
  `/./${path}`,
  `/healthz\\..${path}`,
  `${path}/.`,
  `${path}/x/..`,
  path.replace("/api", "/api/../api"),
  path.replace("/v1", "/%761"),
  path.replaceAll("/", "//"),
  `${path};x=1`,
  `${path}%00`,
  `${path}%2f`,
  `http://localhost${path}`,
  `http://localhost/healthz/..${path}`,
];
