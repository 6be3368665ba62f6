import { afterAll, beforeAll, expect, test } from "vitest";

import { ALL, type Hub, startHub } from "../../support/hub.ts";
import { type RawAnswer, rawRequest } from "../../support/raw-socket.ts";

const PATH = "/api/v1/pipelines/recipes";
const RUNS = "/api/v1/pipelines/runs";
const HOST = "Host: localhost\r\n";
const AUTH = `Authorization: Bearer ${ALL.key}\r\n`;
const JSON_TYPE = "Content-Type: application/json\r\n";

/** Nothing is started there, in whatever order the tests run; a test that launches has its own Hub. */
let hub: Hub;
beforeAll(async () => {
  hub = await startHub();
});
afterAll(() => hub[Symbol.asyncDispose]());

const send = (text: string) => rawRequest(hub.url, text);

function expectProblem({ status, headers, body }: RawAnswer, expected: number): void {
  expect(status).toBe(expected);
  expect(headers.get("content-type")).toBe("application/problem+json");
  expect(headers.get("x-content-type-options")).toBe("nosniff");
  const problem = JSON.parse(body);
  expect(problem).toMatchObject({ status: expected, request_id: headers.get("x-request-id") });
  expect(problem.detail.length).toBeGreaterThan(10);
}

test.for([
  ["no Host", `GET ${PATH} HTTP/1.1\r\n${AUTH}\r\n`],
  ["an empty Host", `GET ${PATH} HTTP/1.1\r\nHost: \r\n${AUTH}\r\n`],
  ["a Host that is a path", `GET ${PATH} HTTP/1.1\r\nHost: a b/c?d#e\r\n${AUTH}\r\n`],
  ["a Host with a user", `GET ${PATH} HTTP/1.1\r\nHost: a:b@c\r\n${AUTH}\r\n`],
  ["a broken IPv6 Host", `GET ${PATH} HTTP/1.1\r\nHost: [::1\r\n${AUTH}\r\n`],
  ["two Hosts", `GET ${PATH} HTTP/1.1\r\n${HOST}Host: evil.example\r\n${AUTH}\r\n`],
  ["a URL of another scheme", `GET ftp://localhost${PATH} HTTP/1.1\r\n${HOST}${AUTH}\r\n`],
  ["OPTIONS *", `OPTIONS * HTTP/1.1\r\n${HOST}\r\n`],
  ["a path with backslashes", `GET ${RUNS}/..\\..\\etc HTTP/1.1\r\n${HOST}${AUTH}\r\n`],
  ["a NUL in the path", `GET /api/v1/\0 HTTP/1.1\r\n${HOST}\r\n`],
  ["a NUL in a header", `GET ${PATH} HTTP/1.1\r\n${HOST}X: a\0b\r\n\r\n`],
  ["a blank in a header's name", `GET ${PATH} HTTP/1.1\r\n${HOST}X Y: z\r\n\r\n`],
  ["a method of small letters", `get ${PATH} HTTP/1.1\r\n${HOST}\r\n`],
  ["a method that nobody knows", `HELLO ${PATH} HTTP/1.1\r\n${HOST}\r\n`],
  ["HTTP/9.9", `GET ${PATH} HTTP/9.9\r\n${HOST}\r\n`],
  ["HTTP/2 in plain text", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
  ["a TLS greeting", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"],
  ["no HTTP at all", "hello world\r\n\r\n"],
  [
    "two Content-Lengths",
    `POST ${RUNS} HTTP/1.1\r\n${HOST}${AUTH}${JSON_TYPE}Content-Length: 2\r\nContent-Length: 5\r\n\r\n{}`,
  ],
  [
    "a Content-Length and chunks",
    `POST ${RUNS} HTTP/1.1\r\n${HOST}${AUTH}${JSON_TYPE}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  ],
  [
    "a negative Content-Length",
    `POST ${RUNS} HTTP/1.1\r\n${HOST}${AUTH}${JSON_TYPE}Content-Length: -1\r\n\r\n`,
  ],
  [
    "a chunk without a size",
    `POST ${RUNS} HTTP/1.1\r\n${HOST}${AUTH}${JSON_TYPE}Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n`,
  ],
  ...[
    "Content-Length: +21",
    "Content-Length: 21,21",
    "Content-Length: 0x15",
    "Content-Length: 21\r\nContent-Length: 0",
    "Content-Length : 21",
    "Content-Length:\r\n 21",
    "Content-Length: 99999999999999999999",
    "Content-Length: 0\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 4",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding:\x0bchunked",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
  ].map((framing) => [`the framing ${JSON.stringify(framing)}`, smuggled(framing)] as const),
  ["a chunk size that is not a number", chunked("0x15")],
  ["a chunk size with a sign", chunked("+15")],
  ["a chunk size that is too large", chunked("fffffffffffffffff")],
  ["a chunk that is longer than it says", chunked("2")],
] as const)("%s is a 400 problem", async ([, text]) => {
  const answer = await send(text);
  expectProblem(answer, 400);
  expect(answer.text.match(/^HTTP\/1\.1 \d{3}/gm), "one answer: the body is not a request").toHaveLength(1);
  expect((await hub.get("/healthz")).status, "the server still serves").toBe(200);
  expect((await hub.get(RUNS)).json.runs, "nothing in it was started").toEqual([]);
});

test("a request hidden in another one starts nothing", async () => {
  expect((await hub.get(RUNS)).json.runs).toEqual([]);
});

test("headers or a request line over 16 KB are a 431 problem", async () => {
  expectProblem(await send(`GET ${PATH} HTTP/1.1\r\n${HOST}X-Big: ${"a".repeat(17_000)}\r\n\r\n`), 431);
  expectProblem(await send(`GET /${"a".repeat(17_000)} HTTP/1.1\r\n${HOST}\r\n`), 431);
  expectProblem(await send(`GET ${PATH} HTTP/1.1\r\n${HOST}${"X: y\r\n".repeat(4_000)}\r\n`), 431);
});

test("a proxy's or a tracer's method is a 405 problem with Allow", async () => {
  for (const line of ["CONNECT example.com:443", `TRACE ${PATH}`, `QUERY ${PATH}`]) {
    const answer = await send(`${line} HTTP/1.1\r\n${HOST}${AUTH}\r\n`);
    expectProblem(answer, 405);
    expect(answer.headers.get("allow")).toContain("GET");
    expect(answer.body).not.toContain(ALL.key);
  }
});

test("an absolute URL, an HTTP/1.0 request with a Host and an offered upgrade are served", async () => {
  for (const text of [
    `GET ${hub.url}${PATH} HTTP/1.1\r\n${HOST}${AUTH}\r\n`,
    `GET ${PATH} HTTP/1.0\r\n${HOST}${AUTH}\r\n`,
    `GET ${PATH} HTTP/1.1\r\n${HOST}${AUTH}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
    `GET ${PATH} HTTP/1.1\r\n${HOST}${AUTH}Content-Length: 5\r\n\r\nhello`,
  ]) {
    expect((await send(text)).status).toBe(200);
  }
});

test("HTTP/1.0 without a Host is served, as health checks of proxies send it", async () => {
  expect(JSON.parse((await send("GET /healthz HTTP/1.0\r\n\r\n")).body)).toMatchObject({ status: "ok" });
  expect((await send(`GET ${PATH} HTTP/1.0\r\n${AUTH}\r\n`)).status).toBe(200);
  expect((await send("OPTIONS /healthz HTTP/1.0\r\n\r\n")).status).toBe(405);
  expectProblem(await send("GET /healthz HTTP/1.0\r\nHost: a b\r\n\r\n"), 400);
});

test("a connection that never sent a byte is closed without an answer, one that began a request gets a 408", async () => {
  const [silent, begun] = await Promise.all(
    ["", "GET /healthz HTTP/1.1\r\n"].map((text) => rawRequest(hub.url, text, { isEnough: () => false })),
  );
  expect(silent!.text).toBe("");
  expectProblem(begun!, 408);
});

test("an unknown Expect header is ignored", async () => {
  const answer = await send(
    `POST ${RUNS} HTTP/1.1\r\n${HOST}${AUTH}${JSON_TYPE}Expect: rain\r\nContent-Length: 2\r\n\r\n{}`,
  );
  expectProblem(answer, 422);
});

test("several requests on one connection are answered in their order", async () => {
  const paths = [PATH, "/healthz", "/nope", `${RUNS}/x`];
  const text = paths.map((path) => `GET ${path} HTTP/1.1\r\n${HOST}${AUTH}\r\n`).join("");
  const answer = await rawRequest(hub.url, text, { isEnough: (all) => /path\.run_id"/.test(all) });
  expect(statuses(answer.text)).toEqual(["200", "200", "404", "422"]);

  const spoilt = await rawRequest(hub.url, `${text}garbage\r\n\r\n`, { isEnough: () => false });
  expect(statuses(spoilt.text)).toEqual(["200", "200", "404", "422", "400"]);
});

test("a request with two Authorization headers is refused, whatever is in them", async () => {
  for (const other of [
    "Authorization: Bearer other\r\n",
    AUTH,
    "authorization:\r\n",
    "Authorization: Basic eA==\r\n",
  ]) {
    for (const headers of [AUTH + other, other + AUTH]) {
      const answer = await send(`GET ${PATH} HTTP/1.1\r\n${HOST}${headers}\r\n`);
      expectProblem(answer, 400);
      expect(answer.body).toContain("header.authorization: is given more than once");
    }
  }
});

test("a client that disconnects in the middle of a body starts nothing and delays no other client", async () => {
  const head = `POST ${RUNS} HTTP/1.1\r\n${HOST}${AUTH}${JSON_TYPE}Content-Length: 200\r\n\r\n{"recipe_id": "hello"`;
  await Promise.all(
    Array.from({ length: 50 }, () => rawRequest(hub.url, head, { hangUp: Promise.resolve() })),
  );
  expect((await hub.get(RUNS)).json.runs).toEqual([]);
});

test("a body that never arrives delays no other client", async () => {
  const head = `POST ${RUNS} HTTP/1.1\r\n${HOST}${AUTH}${JSON_TYPE}Content-Length: 200\r\n\r\n{`;
  const { promise: done, resolve: finish } = Promise.withResolvers<void>();
  const slow = Array.from({ length: 20 }, () => rawRequest(hub.url, head, { hangUp: done }));
  expect((await hub.get("/healthz")).status).toBe(200);
  expect((await hub.post(RUNS, { recipe_id: "none" })).status).toBe(404);
  finish();
  await Promise.all(slow);
  expect((await hub.get(RUNS)).json.runs).toEqual([]);
});

test("lines that end in a bare LF are ends of lines or a 400, and never hide a request", async () => {
  await using own = await startHub();
  const launch = smuggled("Content-Length: 21");
  const answer = await rawRequest(own.url, `GET /healthz HTTP/1.1\n${HOST}Content-Length: 0\n\n${launch}`, {
    isEnough: (all) => / 201 /.test(all) || all.startsWith("HTTP/1.1 400 "),
  });
  expect([["400"], ["200", "201"]]).toContainEqual(
    [...answer.text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status).slice(0, 2),
  );
});

test("nothing that a client sends becomes a header of an answer", async () => {
  await using own = await startHub();
  const forged = "%0d%0aX-Forged:%20yes%0d%0a%0d%0a";
  for (const [method, target] of [
    ["GET", `/${forged}`],
    ["GET", `${RUNS}/${forged}`],
    ["GET", `${RUNS}?cursor=${forged}`],
    ["GET", `${RUNS}?${forged}=1`],
    ["GET", `/api/v1/scripts/content?path=/${forged}`],
    ["DELETE", `${RUNS}/${forged}`],
  ]) {
    const { text, headers } = await rawRequest(own.url, `${method} ${target} HTTP/1.1\r\n${HOST}${AUTH}\r\n`);
    expect(headers.get("x-forged"), target).toBeNull();
    expect(text.split("\r\n\r\n", 1)[0], target).not.toMatch(/forged/i);
  }
  const body = JSON.stringify({ recipe_id: "hello", label: "a", args: "'\r\nX-Forged: yes'" });
  const launched = await rawRequest(
    own.url,
    `POST ${RUNS} HTTP/1.1\r\n${HOST}${AUTH}${JSON_TYPE}Prefer: wait=0\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  expect(launched.status).toBe(201);
  expect(launched.headers.get("x-forged")).toBeNull();
  await own.ended(JSON.parse(launched.body));
});

/** A launch whose body an odd framing of the request before it hides. */
function smuggled(framing: string): string {
  return `POST ${RUNS} HTTP/1.1\r\n${HOST}${AUTH}${JSON_TYPE}${framing}\r\n\r\n{"recipe_id":"hello"}`;
}

function chunked(size: string): string {
  return `${smuggled("Transfer-Encoding: chunked").split("{", 1)[0]}${size}\r\n{"recipe_id":"hello"}\r\n0\r\n\r\n`;
}

function statuses(answers: string): unknown[] {
  return [...answers.matchAll(/(?:^|\}\n?)HTTP\/1\.1 (\d+)/g)].map(([, status]) => status);
}
