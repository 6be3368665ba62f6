import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { makeAgentKey } from "../../../adapters/keys/agent-pair.ts";
import { createDoor, type DoorOptions } from "../../../host-agent/door/door.ts";
import { openNonceMemory } from "../../../host-agent/door/nonce-memory.ts";
import { hostClock } from "../../../host-agent/system/clock.ts";
import { importTrustedKeys } from "../../../host-agent/door/trusted-keys.ts";
import { requestSigner } from "../../../host-agent/protocol/signature.ts";
import { tempDir } from "../../support/temp-dir.ts";

const START_MS = 1_800_000_000_000;
const URL_HERE = "http://agent.internal:8788/agent/v1/runs";
const BODY = new TextEncoder().encode("{}");

/** The door without a socket, with its log and a clock that the test moves. */
async function startDoor(changes: Partial<DoorOptions> = {}) {
  const clock = { now: START_MS };
  const log: Record<string, unknown>[] = [];
  const served: Request[] = [];
  const nonces = openNonceMemory(
    join(tempDir(), "door.mark"),
    hostClock(() => clock.now),
  );
  onTestFinished(() => nonces.close());
  const key = await makeAgentKey();
  const { d: _secret, ...publicKey } = key;
  const trusted = importTrustedKeys([publicKey]);
  const door = createDoor({
    agent: async (request) => {
      served.push(request);
      return new Response("welcome");
    },
    name: "host-agent",
    answersLivez: false,
    trusted: async () => trusted,
    nonces,
    log: (entry) => void log.push(entry),
    now: () => clock.now,
    ...changes,
  });
  const signer = await requestSigner(key, "host-agent", () => clock.now);
  async function signed(
    method: string,
    {
      url = URL_HERE,
      body,
      signedBody = method === "POST" ? BODY : undefined,
    }: { url?: string; body?: Uint8Array<ArrayBuffer>; signedBody?: typeof BODY } = {},
  ) {
    const head = { method, url, headers: new Headers({ "content-type": "application/json" }) };
    const isWithBody = method === "POST";
    const headers = await signer(head, signedBody);
    return new Request(url, {
      method,
      headers,
      ...(isWithBody && { body: body ?? BODY, duplex: "half" }),
    });
  }
  return { door, log, served, clock, signed };
}

const unsigned = (url = URL_HERE) => new Request(url);
const UNSIGNED = {
  level: "warn",
  event: "refused",
  reason: "unsigned",
  detail: "it has no signature",
  method: "GET",
  url: URL_HERE,
};

test("a flood of refusals writes 200 lines a second to the log, and then how many more there were", async () => {
  const { door, log, clock } = await startDoor();
  for (let i = 0; i < 200; i++) await door(unsigned());
  expect(log).toHaveLength(200);
  expect(log.at(-1)).toEqual(UNSIGNED);
  for (let i = 0; i < 5; i++) await door(unsigned());
  clock.now += 999;
  await door(unsigned());
  expect(log).toHaveLength(200);

  clock.now += 1;
  await door(unsigned());
  expect(log.slice(200)).toEqual([{ level: "warn", event: "refused_more", count: 6 }, UNSIGNED]);
  clock.now += 1_000;
  for (let i = 0; i < 200; i++) await door(unsigned());
  clock.now += 1_000;
  await door(unsigned());
  expect(
    log.slice(202).map(({ event }) => event),
    "exactly 200 leave nothing to count",
  ).toEqual(Array.from({ length: 201 }, () => "refused"));
});

test("a refusal shows 200 characters of a path and of a cause, which strangers choose", async () => {
  const { door, log } = await startDoor();
  const long = `${URL_HERE}?${"x".repeat(500)}`;
  await door(unsigned(long));
  expect(log[0]).toEqual({ ...UNSIGNED, url: long.slice(0, 200) });
  const failing = await startDoor({
    trusted: async () => {
      throw new Error("y".repeat(500));
    },
  });
  await failing.door(unsigned());
  expect(failing.log[0]).toMatchObject({ cause: "y".repeat(200) });
});

test("an error of the agent's own refuses the request, and the log has it as an error and not as the caller's fault", async () => {
  const { door, log, served, signed } = await startDoor({
    trusted: async () => {
      throw new Error("disk on fire");
    },
  });
  const answer = await door(await signed("POST"));
  expect([answer.status, await answer.json()]).toEqual([401, { code: "unauthenticated", detail: "Refused" }]);
  expect(Object.fromEntries(answer.headers)).toMatchObject({
    "www-authenticate": "Signature",
    connection: "close",
  });
  expect(log).toEqual([
    {
      level: "error",
      event: "refused",
      reason: "internal",
      detail: "an error inside the agent",
      method: "POST",
      url: URL_HERE,
      cause: "disk on fire",
    },
  ]);
  expect(served).toEqual([]);
});

test("a replay mark that cannot be written refuses the request, for later nobody could distinguish it from a replay", async () => {
  const { door, log, served, signed } = await startDoor({
    nonces: {
      take() {
        throw new Error("no space left");
      },
      count: () => 0,
      close() {},
    },
  });
  expect((await door(await signed("POST"))).status).toBe(401);
  expect(log).toEqual([expect.objectContaining({ reason: "state_unwritable", cause: "no space left" })]);
  expect(served).toEqual([]);
});

test("a body that ends early is refused with its cause, and its signature is used up", async () => {
  const { door, log, served, signed } = await startDoor();
  const whole = await signed("POST");
  const cut = new Request(URL_HERE, {
    method: "POST",
    headers: whole.headers,
    body: new ReadableStream({
      start: (controller) => controller.error(new Error("aborted")),
    }),
    duplex: "half",
  });
  expect((await door(cut)).status).toBe(401);
  expect(log).toEqual([
    expect.objectContaining({
      level: "warn",
      reason: "body_cut_off",
      detail: "its body ended early",
      cause: "aborted",
    }),
  ]);
  expect((await door(whole)).status).toBe(401);
  expect(log.at(-1)).toMatchObject({ reason: "replayed" });
  expect(served).toEqual([]);
});

test("a request without a body, GET and HEAD, is passed on as it came, and a POST with its body", async () => {
  const { door, log, served, signed } = await startDoor();
  for (const method of ["GET", "HEAD", "POST"]) {
    const request = await signed(method);
    const headers = [...request.headers];
    expect((await door(request)).status, method).toBe(200);
    const passed = served.at(-1)!;
    expect([passed.method, passed.url], method).toEqual([method, URL_HERE]);
    expect([...passed.headers], method).toEqual(headers);
    expect(await passed.text(), method).toBe(method === "POST" ? "{}" : "");
  }
  expect(log).toEqual([]);
});

test("a GET or HEAD that says it has a body is refused, whatever the length says, but not one of length 0", async () => {
  const { door, log, signed } = await startDoor();
  const answerTo = async (method: string, name: string, value: string) => {
    const plain = await signed(method);
    const headers = new Headers(plain.headers);
    headers.set(name, value);
    const { status } = await door({ method, url: plain.url, headers } as Request);
    return [status, log.at(-1)?.["reason"]];
  };
  for (const method of ["GET", "HEAD"]) {
    log.length = 0;
    expect(await answerTo(method, "content-length", "0"), method).toEqual([200, undefined]);
    for (const [name, value] of [
      ["transfer-encoding", "chunked"],
      ["content-length", "1"],
      ["content-length", "many"],
    ] as const) {
      log.length = 0;
      expect(await answerTo(method, name, value), `${method} ${name}: ${value}`).toEqual([
        401,
        "missing_digest",
      ]);
    }
  }
});

test("a GET or HEAD that was signed with a body is refused: it comes without one", async () => {
  const { door, log, served, signed } = await startDoor();
  for (const method of ["GET", "HEAD"]) {
    expect((await door(await signed(method, { signedBody: BODY }))).status, method).toBe(401);
    expect(log.at(-1), method).toMatchObject({ reason: "digest_mismatch" });
  }
  expect(served).toEqual([]);
});

test("a door that answers /livez does so to GET and HEAD without a signature, and opens for nothing else", async () => {
  const [open, shut] = [await startDoor({ answersLivez: true }), await startDoor()];
  const ask = async ({ door }: typeof open, method: string, path: string) =>
    (await door(new Request(new URL(path, URL_HERE), { method }))).status;
  for (const method of ["GET", "HEAD"]) {
    expect(await ask(open, method, "/livez"), method).toBe(200);
    expect(await ask(open, method, "/livez/"), method).toBe(401);
    expect(await ask(shut, method, "/livez"), method).toBe(401);
  }
  expect(await ask(open, "POST", "/livez")).toBe(401);
  expect(await (await open.door(unsigned(new URL("/livez", URL_HERE).href))).text()).toBe("ok\n");
  expect(open.served).toEqual([]);
});

test("a body of exactly a mebibyte is read, and of one byte more refused", async () => {
  const { door, log, signed } = await startDoor();
  for (const [length, reason] of [
    [1_048_576, "digest_mismatch"],
    [1_048_577, "body_too_large"],
  ] as const) {
    const { status } = await door(await signed("POST", { body: new Uint8Array(length) }));
    expect([status, log.at(-1)!["reason"]], String(length)).toEqual([401, reason]);
  }
});
