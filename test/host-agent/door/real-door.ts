import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, connect } from "node:net";
import { hash } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { createSignature, webcrypto } from "http-message-sig";
import { expect } from "vitest";

import { makeAgentKey, trustKey } from "../../../adapters/keys/agent-pair.ts";
import { createDoor } from "../../../host-agent/door/door.ts";
import { close, httpServer, listen } from "../../../host-agent/system/http-listener.ts";
import { openNonceMemory } from "../../../host-agent/door/nonce-memory.ts";
import {
  contentDigest,
  type PrivateKey,
  requestSigner,
  type SignRequest,
} from "../../../host-agent/protocol/signature.ts";
import { openTrustedKeys } from "../../../host-agent/door/trusted-keys.ts";

/** The name of the agent behind this door. */
export const AGENT = "host-agent";
/** The time at which the clock of the test starts, in milliseconds. */
export const START_MS = 1_800_000_000_000;
/** The body of a request when a test names no other. */
export const BODY = '{"source":"pipeline","spec":{"recipe_id":"hello"}}';

/** A request as it goes over the wire; the order of the headers is kept, and a name may be a duplicate. */
export interface Wire {
  method: string;
  target: string;
  headers: [string, string][];
  body: string;
}

interface Ask {
  key?: PrivateKey;
  agentName?: string;
  method?: string;
  target?: string;
  body?: string | undefined;
  /** The signer's clock. */
  at?: number;
}

/** How a test signs: as the edges do, or in another form of RFC 9421 that states the same. */
export type Signing = typeof requestSigner;

/** Signs as `requestSigner` does, but with the components and the parameters in another order, and one component more. */
export async function signerOfAnotherForm(
  { kty, crv, x, d, kid }: PrivateKey,
  agentName: string,
  now: () => number = Date.now,
): Promise<SignRequest> {
  const signer = webcrypto.signer(
    await crypto.subtle.importKey("jwk", { kty, crv, x, d }, { name: "Ed25519" }, false, ["sign"]),
  );
  const head = ["@scheme", "@query", "@path", "@authority", "@method"];
  return async ({ method, url, headers: unsigned }, body) => {
    const headers = new Headers(unsigned);
    if (body !== undefined) headers.set("content-digest", await contentDigest(body));
    const fields = [...headers].map(([name, value]) => ({ name, value }));
    const created = Math.floor(now() / 1000);
    const nonce = crypto.randomUUID();
    const { signature, signatureInput } = await createSignature(
      { kind: "request", method, targetUri: url, fields },
      {
        label: "hub",
        components: body === undefined ? head : ["content-type", "content-digest", ...head],
        parameters: { alg: "ed25519", tag: agentName, keyid: kid, nonce, created },
        signer,
      },
    );
    headers.set("signature", signature);
    headers.set("signature-input", signatureInput);
    return headers;
  };
}

/**
 * The door behind a real socket, with a clock that the test moves; behind the
 * door stands an agent that only counts.
 */
export async function startDoor(signing: Signing = requestSigner) {
  const dir = mkdtempSync(join(tmpdir(), "door-"));
  const trustFile = join(dir, "trusted_keys.json");
  const key = await makeAgentKey();
  trust(key);
  const clock = {
    now: START_MS,
    /** How far the clock has been set, in milliseconds: what remains of `now` is time that has passed. */
    setBy: 0,
    /** Sets the clock ahead, or back with a negative number: no time passes. */
    set(ms: number): void {
      clock.now += ms;
      clock.setBy += ms;
    },
  };
  const log: Record<string, unknown>[] = [];
  const served: string[] = [];
  const write = (entry: Record<string, unknown>) => void log.push(entry);

  function trust(trusted: PrivateKey): void {
    const { d: _secret, ...publicKey } = trusted;
    trustKey(trustFile, publicKey);
  }

  async function open() {
    const nonces = openNonceMemory(
      join(dir, "door.mark"),
      () => ({ at: clock.now, uptime: clock.now - clock.setBy }),
      write,
    );
    const door = createDoor({
      answersLivez: false,
      agent: async (request) => {
        served.push(`${request.method} ${new URL(request.url).pathname} ${await request.text()}`);
        return new Response("welcome");
      },
      name: AGENT,
      trusted: await openTrustedKeys(trustFile, write),
      nonces,
      log: write,
      now: () => clock.now,
    });
    const bounds = {
      headersTimeoutMs: 5_000,
      requestTimeoutMs: 5_000,
      keepAliveTimeoutMs: 1_000,
      maxHeaderBytes: 16_384,
    };
    const server = httpServer(door, bounds, () => new Response(null, { status: 400 }));
    await listen(server, { host: "127.0.0.1", port: 0 });
    return { nonces, server, port: (server.address() as AddressInfo).port };
  }

  let running = await open();
  const world = {
    dir,
    key,
    clock,
    log,
    served,
    trust,
    trustFile,
    get nonces() {
      return running.nonces;
    },
    /** The authority that stays the same over a restart, as it does behind a proxy. */
    host: "agent.internal:8788",

    async sign({
      key: by = key,
      agentName = AGENT,
      method = "POST",
      target = "/agent/v1/runs?a=1",
      ...ask
    }: Ask = {}) {
      const body = "body" in ask ? ask.body : BODY;
      const signer = await signing(by, agentName, () => ask.at ?? clock.now);
      const head = {
        method,
        url: `http://${world.host}${target}`,
        headers: new Headers(body === undefined ? {} : { "content-type": "application/json" }),
      };
      const headers = await signer(head, body === undefined ? undefined : new TextEncoder().encode(body));
      return { method, target, headers: [...headers] as [string, string][], body: body ?? "" };
    },

    /** Sends it and returns the whole answer but for its date. */
    async send({ method, target, headers, body }: Wire): Promise<string> {
      const length: [string, string][] =
        body === "" ? [] : [["content-length", String(Buffer.byteLength(body))]];
      const lines = [["host", world.host], ...headers, ...length].map(
        ([name, value]) => `${name}: ${value}\r\n`,
      );
      return exchange(running.port, `${method} ${target} HTTP/1.1\r\n${lines.join("")}\r\n${body}`);
    },

    /** Sends bytes that need be no request. */
    sendBytes: (bytes: Buffer) => exchange(running.port, bytes.toString("latin1")),

    async restart(between: () => void = () => {}): Promise<void> {
      await close(running.server, 0);
      running.nonces.close();
      between();
      running = await open();
    },

    async [Symbol.asyncDispose](): Promise<void> {
      await close(running.server, 0);
      running.nonces.close();
      rmSync(dir, { recursive: true });
    },
  };
  return world;
}

/** What a test can do with a started door. */
export type Door = Awaited<ReturnType<typeof startDoor>>;

/** Sends bytes over a separate connection, and reads until the other side closes or has sent one whole answer. */
function exchange(port: number, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = connect(port, "127.0.0.1", () => socket.write(Buffer.from(text, "latin1")));
    const finish = () => {
      socket.destroy();
      resolve(answer.replace(/^date: .*\r\n/im, ""));
    };
    socket.on("data", (data) => {
      answer += data.toString("latin1");
      if (answer.includes("\r\n\r\nwelcome")) finish();
    });
    socket.on("close", finish);
    socket.on("error", (error: NodeJS.ErrnoException) =>
      error.code === "ECONNRESET" ? finish() : reject(error),
    );
  });
}

/** The one answer to every request that the door refuses, without its date. */
export const REFUSED = [
  "HTTP/1.1 401 Unauthorized",
  "connection: close",
  "content-type: application/json",
  "www-authenticate: Signature",
  "Content-Length: 45",
  "",
  '{"code":"unauthenticated","detail":"Refused"}',
].join("\r\n");

/** What the parser of node:http answers to what is no HTTP. */
export const UNREADABLE = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";

/** Sends what must be refused, and returns the reason in the log: the wire knows one refusal, the same bytes for all. */
export async function refusal(door: Door, wire: Wire): Promise<unknown> {
  const before = door.served.length;
  const answer = await door.send(wire);
  expect(answer).toBe(REFUSED);
  expect(door.served.length).toBe(before);
  const entry = door.log.at(-1);
  expect(entry).toMatchObject({ event: "refused" });
  return entry!["reason"];
}

/** The SHA-512 of a text, in hexadecimal digits. */
export const sha512 = (text: string) => hash("sha512", text);
/** The value of the first header of this name; it must exist. */
export const header = ({ headers }: Wire, name: string) => headers.find(([n]) => n === name)![1];
/** The same request with another value of this header. */
export const withHeader = (wire: Wire, name: string, value: string): Wire => ({
  ...wire,
  headers: wire.headers.map(([n, v]) => [n, n === name ? value : v]),
});
/** The same request without this header. */
export const withoutHeader = (wire: Wire, name: string): Wire => ({
  ...wire,
  headers: wire.headers.filter(([n]) => n !== name),
});
