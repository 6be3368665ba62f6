import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect } from "node:net";
import { hash } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

import * as fc from "fast-check";
import { createSignature, webcrypto } from "http-message-sig";
import { describe, expect, test } from "vitest";

import { makeAgentKey, trustKey } from "../../../adapters/keys/agent-pair.ts";
import { createDoor } from "../../../host-agent/door/door.ts";
import { close, httpServer, listen } from "../../../host-agent/system/http-listener.ts";
import { openNonceMemory } from "../../../host-agent/door/nonce-memory.ts";
import { contentDigest, type PrivateKey, requestSigner } from "../../../host-agent/protocol/signature.ts";
import { openTrustedKeys } from "../../../host-agent/door/trusted-keys.ts";

const AGENT = "host-agent";
const START_MS = 1_800_000_000_000;
const BODY = '{"source":"pipeline","spec":{"recipe_id":"hello"}}';

/** A request as it goes over the wire; the order of the headers is kept, and a name may stand there twice. */
interface Wire {
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

/**
 * The door behind a real socket, with a clock that the test moves; behind the
 * door stands an agent that only counts.
 */
async function startDoor() {
  const dir = mkdtempSync(join(tmpdir(), "door-"));
  const trustFile = join(dir, "trusted_keys.json");
  const key = await makeAgentKey();
  trust(key);
  const clock = { now: START_MS };
  const log: Record<string, unknown>[] = [];
  const served: string[] = [];
  const write = (entry: Record<string, unknown>) => void log.push(entry);

  function trust(trusted: PrivateKey): void {
    const { d: _secret, ...publicKey } = trusted;
    trustKey(trustFile, publicKey);
  }

  async function open() {
    const nonces = openNonceMemory(join(dir, "door.mark"), () => clock.now);
    const door = createDoor({
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
      const signer = await requestSigner(by, agentName, () => ask.at ?? clock.now);
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

type Door = Awaited<ReturnType<typeof startDoor>>;

/** Sends bytes over a connection of its own, and reads until the other side closes or has sent one whole answer. */
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

const REFUSED = [
  "HTTP/1.1 401 Unauthorized",
  "connection: close",
  "content-type: application/json",
  "www-authenticate: Signature",
  "Content-Length: 45",
  "",
  '{"code":"unauthenticated","detail":"Refused"}',
].join("\r\n");

/** What the parser of node:http answers to what is no HTTP. */
const UNREADABLE = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";

/** Sends what must be refused, and returns the reason in the log: the wire knows one refusal, the same bytes for all. */
async function refusal(door: Door, wire: Wire): Promise<unknown> {
  const before = door.served.length;
  const answer = await door.send(wire);
  expect(answer).toBe(REFUSED);
  expect(door.served.length).toBe(before);
  const entry = door.log.at(-1);
  expect(entry).toMatchObject({ event: "refused" });
  return entry!["reason"];
}

const sha512 = (text: string) => hash("sha512", text);
const header = ({ headers }: Wire, name: string) => headers.find(([n]) => n === name)![1];
const withHeader = (wire: Wire, name: string, value: string): Wire => ({
  ...wire,
  headers: wire.headers.map(([n, v]) => [n, n === name ? value : v]),
});
const withoutHeader = (wire: Wire, name: string): Wire => ({
  ...wire,
  headers: wire.headers.filter(([n]) => n !== name),
});

describe("the door of the agent", () => {
  test("lets in what a trusted key has signed, with a body and without", async () => {
    await using door = await startDoor();

    expect(await door.send(await door.sign())).toMatch(/^HTTP\/1.1 200 /);
    expect(
      await door.send(await door.sign({ method: "GET", target: "/agent/v1/health", body: undefined })),
    ).toMatch(/^HTTP\/1.1 200 /);

    expect(door.served).toEqual([`POST /agent/v1/runs ${BODY}`, "GET /agent/v1/health "]);
    expect(door.log).toEqual([]);
  });

  test("refuses what is not signed at all", async () => {
    await using door = await startDoor();
    const wire = await door.sign();

    expect(await refusal(door, { ...wire, headers: [["content-type", "application/json"]] })).toBe(
      "unsigned",
    );
    expect(await refusal(door, { method: "GET", target: "/agent/v1/health", headers: [], body: "" })).toBe(
      "unsigned",
    );
    expect(await refusal(door, { method: "GET", target: "/nothing", headers: [], body: "" })).toBe(
      "unsigned",
    );
    expect(await refusal(door, withoutHeader(wire, "signature"))).toBe("malformed_signature");
    expect(await refusal(door, withoutHeader(wire, "signature-input"))).toBe("malformed_signature");
  });

  test("refuses a request that it has let in before, and one of two at the same time", async () => {
    await using door = await startDoor();
    const wire = await door.sign();
    const twice = await door.sign();

    await door.send(wire);
    expect(await refusal(door, wire)).toBe("replayed");
    const answers = await Promise.all([door.send(twice), door.send(twice), door.send(twice)]);

    expect(answers.filter((answer) => answer.startsWith("HTTP/1.1 200 "))).toHaveLength(1);
    expect(door.served).toHaveLength(2);
  });

  test("refuses another method, path, query, host, body or content type than the signed one", async () => {
    await using door = await startDoor();
    const wire = await door.sign();
    const other = (change: Partial<Wire>) => ({ ...wire, ...change });

    expect(await refusal(door, other({ method: "PUT" }))).toBe("bad_signature");
    expect(await refusal(door, other({ target: "/agent/v1/runs/x?a=1" }))).toBe("bad_signature");
    expect(await refusal(door, other({ target: "//agent/v1/runs?a=1" }))).toBe("bad_signature");
    expect(await refusal(door, other({ target: "/agent/v1/%72uns?a=1" }))).toBe("bad_signature");
    expect(await refusal(door, other({ target: "/agent/v1/runs?a=2" }))).toBe("bad_signature");
    expect(await refusal(door, other({ target: "/agent/v1/runs" }))).toBe("bad_signature");
    expect(await refusal(door, withHeader(wire, "content-type", "text/plain"))).toBe("bad_signature");
    const digest = await contentDigest(new TextEncoder().encode(`${BODY} `));
    expect(await refusal(door, { ...withHeader(wire, "content-digest", digest), body: `${BODY} ` })).toBe(
      "bad_signature",
    );
    door.host = "other.internal:8788";
    expect(await refusal(door, wire)).toBe("bad_signature");
  });

  test("refuses a body in which any one byte is another", async () => {
    await using door = await startDoor();
    for (let at = 0; at < BODY.length; at++) {
      const flipped = String.fromCharCode(BODY.charCodeAt(at) ^ 1);
      const wire = await door.sign();
      const body = BODY.slice(0, at) + flipped + BODY.slice(at + 1);
      expect([`byte ${at}`, await refusal(door, { ...wire, body })]).toEqual([
        `byte ${at}`,
        "digest_mismatch",
      ]);
    }
    expect(await refusal(door, { ...(await door.sign()), body: "" })).toBe("digest_mismatch");
    expect(await refusal(door, { ...(await door.sign()), body: BODY + BODY })).toBe("digest_mismatch");
  });

  test("refuses a request in which any one byte of the signature or of its input is another", async () => {
    await using door = await startDoor();
    const wire = await door.sign();
    for (const name of ["signature", "signature-input", "content-digest"]) {
      const value = header(wire, name);
      for (let at = 0; at < value.length; at++) {
        const flipped = String.fromCharCode(value.charCodeAt(at) ^ 1);
        const altered = withHeader(wire, name, value.slice(0, at) + flipped + value.slice(at + 1));
        expect([`${name}, byte ${at}`, await door.send(altered)]).toEqual([`${name}, byte ${at}`, REFUSED]);
      }
    }
    expect(door.served).toEqual([]);
    // The request itself is still good.
    expect(await door.send(wire)).toMatch(/^HTTP\/1.1 200 /);
  });

  test("refuses what is older than a minute, or more than five seconds ahead", async () => {
    await using door = await startDoor();
    door.clock.now = START_MS + 600_000;
    const signedAt = (seconds: number) => door.sign({ at: door.clock.now + seconds * 1000 });

    expect(await refusal(door, await signedAt(-61))).toBe("too_old");
    expect(await refusal(door, await signedAt(6))).toBe("from_the_future");

    expect(await door.send(await signedAt(-60))).toMatch(/^HTTP\/1.1 200 /);
    expect(await door.send(await signedAt(5))).toMatch(/^HTTP\/1.1 200 /);
  });

  test("refuses what is signed for an agent of another name, or by a key that it does not know", async () => {
    await using door = await startDoor();
    const stranger = await makeAgentKey();

    expect(await refusal(door, await door.sign({ agentName: "host-agent-2" }))).toBe("wrong_tag");
    expect(await refusal(door, await door.sign({ key: stranger }))).toBe("unknown_key");
    expect(await refusal(door, await door.sign({ key: { ...stranger, kid: door.key.kid } }))).toBe(
      "bad_signature",
    );
  });

  test("refuses a signature that leaves something out", async () => {
    await using door = await startDoor();
    const all = ["@method", "@authority", "@path", "@query", "content-digest", "content-type"];
    const parameters = {
      created: START_MS / 1000,
      nonce: "n".repeat(32),
      keyid: door.key.kid,
      tag: AGENT,
      alg: "ed25519",
    };
    const { kty, crv, x, d } = door.key;
    const signer = webcrypto.signer(
      await crypto.subtle.importKey("jwk", { kty, crv, x, d }, { name: "Ed25519" }, false, ["sign"]),
    );
    const signed = async (components: string[], given: object): Promise<Wire> => {
      const headers: [string, string][] = [
        ["content-type", "application/json"],
        ["content-digest", await contentDigest(new TextEncoder().encode(BODY))],
      ];
      const { signature, signatureInput } = await createSignature(
        {
          kind: "request",
          method: "POST",
          targetUri: `http://${door.host}/agent/v1/runs`,
          fields: headers.map(([name, value]) => ({ name, value })),
        },
        { label: "hub", components, parameters: given as typeof parameters, signer },
      );
      headers.push(["signature", signature], ["signature-input", signatureInput]);
      return { method: "POST", target: "/agent/v1/runs", headers, body: BODY };
    };

    for (const left of all.slice(0, 4)) {
      expect([
        left,
        await refusal(
          door,
          await signed(
            all.filter((c) => c !== left),
            parameters,
          ),
        ),
      ]).toEqual([left, "incomplete_signature"]);
    }
    for (const left of all.slice(4)) {
      const nonce = left.padEnd(32, "-");
      expect([
        left,
        await refusal(
          door,
          await signed(
            all.filter((c) => c !== left),
            { ...parameters, nonce },
          ),
        ),
      ]).toEqual([left, "missing_digest"]);
    }
    for (const left of Object.keys(parameters)) {
      const { [left as "nonce"]: _left, ...rest } = parameters;
      expect([left, await refusal(door, await signed(all, rest))]).toEqual([left, "incomplete_signature"]);
    }
    for (const nonce of ["", "short", "n".repeat(65), "n n ".repeat(8)]) {
      expect([nonce, await refusal(door, await signed(all, { ...parameters, nonce }))]).toEqual([
        nonce,
        "malformed_signature",
      ]);
    }
    expect(await door.send(await signed(all, parameters))).toMatch(/^HTTP\/1.1 200 /);
  });

  test("refuses a body that a signature without a body got on its way, with any method", async () => {
    await using door = await startDoor();
    const bare = await door.sign({ body: undefined });
    const get = await door.sign({ method: "GET", body: undefined });

    expect(await refusal(door, { ...bare, body: BODY })).toBe("missing_digest");
    expect(await refusal(door, { ...get, body: BODY })).toBe("missing_digest");
  });

  test("refuses headers that stand there twice", async () => {
    await using door = await startDoor();
    for (const name of ["signature", "signature-input", "content-digest", "content-type"]) {
      const wire = await door.sign();
      const other = await door.sign();
      for (const value of [header(wire, name), header(other, name)]) {
        expect([name, await door.send({ ...wire, headers: [...wire.headers, [name, value]] })]).toEqual([
          name,
          REFUSED,
        ]);
        expect([name, await door.send({ ...wire, headers: [[name, value], ...wire.headers] })]).toEqual([
          name,
          REFUSED,
        ]);
      }
    }
    expect(door.served).toEqual([]);
  });

  test("refuses whatever else stands in the signature headers, and never fails over it", async () => {
    await using door = await startDoor();
    const wire = await door.sign();
    const printable = fc.string({
      unit: fc.integer({ min: 0x20, max: 0xff }).map((c) => String.fromCharCode(c)),
      maxLength: 300,
    });
    const piece = fc.constantFrom(
      'hub=("@method" "@path")',
      "hub=:AAAA:",
      ";created=1",
      ';keyid="a"',
      "hub",
      "=",
      ":",
      "(",
      ")",
      ",",
      ";",
      '"',
      "1e400",
      "?1",
      "@1",
      "\\",
      "__proto__=1",
    );
    const value = fc.oneof(
      printable,
      fc.array(piece, { maxLength: 12 }).map((parts) => parts.join("")),
    );
    await fc.assert(
      fc.asyncProperty(
        value,
        value,
        fc.constantFrom("signature", "signature-input", "both"),
        async (a, b, which) => {
          let altered = wire;
          if (which !== "signature-input") altered = withHeader(altered, "signature", a);
          if (which !== "signature") altered = withHeader(altered, "signature-input", b);
          const answer = await door.send(altered);
          // Bytes that are no header at all are for the HTTP parser to refuse.
          expect([REFUSED, UNREADABLE]).toContain(answer);
        },
      ),
      { numRuns: 300 },
    );
    expect(door.served).toEqual([]);
    expect(door.log.filter(({ reason }) => reason === "internal")).toEqual([]);
  });

  test("refuses a body of more than a mebibyte, signed or not, and serves on", async () => {
    await using door = await startDoor();
    const huge = "x".repeat(1_048_577);

    expect(await refusal(door, await door.sign({ body: huge }))).toBe("body_too_large");
    expect((await door.send({ ...(await door.sign()), headers: [], body: huge })).slice(0, 12)).toMatch(
      /^(?:HTTP\/1.1 401)?$/,
    );

    expect(await door.send(await door.sign({ body: huge.slice(1) }))).toMatch(/^HTTP\/1.1 200 /);
  });

  test("takes a zip, a bomb and junk for what they are, unpacks nothing and serves on", async () => {
    await using door = await startDoor();
    const bomb = gzipSync(Buffer.alloc(20 * 1_048_576));
    const zip = Buffer.concat([Buffer.from("PK\x03\x04\x14\0\b\0\b\0", "latin1"), bomb]);
    const junk = Array.from({ length: 20 }, (_, i) => Buffer.from(sha512(`${i}`), "hex"));

    for (const bytes of [zip, bomb, ...junk]) expect(await door.sendBytes(bytes)).toBe(UNREADABLE);
    const headers: [string, string][] = [
      ["content-type", "application/zip"],
      ["content-encoding", "gzip"],
    ];
    for (const body of [zip, bomb]) {
      const wire = { method: "POST", target: "/agent/v1/runs", headers, body: body.toString("latin1") };
      expect(
        (await door.send({ ...wire, body: wire.body.replaceAll(/[\x80-\xff]/g, "x") })).slice(0, 12),
      ).toBe("HTTP/1.1 401");
    }
    expect(door.served).toEqual([]);
    const packed = await door.sign({ body: "x".repeat(1_000) });
    await door.send({ ...packed, headers: [...packed.headers, ["content-encoding", "gzip"]] });
    expect(door.served, "handed on as it came").toEqual([`POST /agent/v1/runs ${"x".repeat(1_000)}`]);
  });

  test("remembers a nonce for as long as its signature is good, and no longer", async () => {
    await using door = await startDoor();
    const wire = await door.sign();
    await door.send(wire);
    expect(door.nonces.count()).toBe(1);

    door.clock.now += 60_000;
    expect(await refusal(door, wire)).toBe("replayed");
    door.clock.now += 1_000;
    expect(await refusal(door, wire)).toBe("too_old");
    await door.send(await door.sign());

    expect(door.nonces.count()).toBe(1);
  });

  test("remembers nothing of requests that are not validly signed", async () => {
    await using door = await startDoor();
    const stranger = await makeAgentKey();
    for (let i = 0; i < 50; i++) {
      await door.send(await door.sign({ key: i % 2 === 0 ? stranger : { ...stranger, kid: door.key.kid } }));
    }
    expect(door.nonces.count()).toBe(0);
  });

  test("a clock that is set back and forth does not let a request in twice", async () => {
    await using door = await startDoor();
    const wire = await door.sign();
    await door.send(wire);

    door.clock.now += 120_000;
    await door.send(await door.sign());
    door.clock.now -= 120_000;

    expect(await refusal(door, wire)).toBe("before_start");
  });
});

describe("the door after a restart of the agent", () => {
  test("refuses what was let in before, within the same second and with the signer's clock ahead", async () => {
    await using door = await startDoor();
    const before = await door.sign({ at: START_MS + 900 });
    const ahead = await door.sign({ at: START_MS + 4_000 });
    await door.send(before);
    await door.send(ahead);

    await door.restart(() => (door.clock.now = START_MS + 950));

    expect(await refusal(door, before)).toBe("before_start");
    expect(await refusal(door, ahead)).toBe("before_start");
    expect(door.served).toHaveLength(2);
  });

  test("refuses what was signed before the start, though no agent has seen it", async () => {
    await using door = await startDoor();
    const early = await door.sign({ at: START_MS });

    await door.restart(() => (door.clock.now = START_MS + 2_000));

    expect(await refusal(door, early)).toBe("before_start");
    expect(await door.send(await door.sign())).toMatch(/^HTTP\/1.1 200 /);
  });

  test("takes requests of the second after the last one that was let in", async () => {
    await using door = await startDoor();
    await door.send(await door.sign());

    await door.restart();

    expect(await refusal(door, await door.sign())).toBe("before_start");
    door.clock.now += 1_000;
    expect(await door.send(await door.sign())).toMatch(/^HTTP\/1.1 200 /);
  });

  test("is not locked for longer than the skew by a mark that is damaged or from a clock gone wrong", async () => {
    for (const text of ["", "garbage", "999999999999999\n"]) {
      await using door = await startDoor();
      await door.restart(() => writeFileSync(join(door.dir, "door.mark"), text));

      expect([text, await refusal(door, await door.sign())]).toEqual([text, "before_start"]);
      door.clock.now += 6_000;
      expect(await door.send(await door.sign())).toMatch(/^HTTP\/1.1 200 /);
    }
  });
});

describe("the trusted keys", () => {
  test("may be several, so that one can take the place of the other without a gap", async () => {
    await using door = await startDoor();
    const next = await makeAgentKey();
    expect(await refusal(door, await door.sign({ key: next }))).toBe("unknown_key");

    door.trust(next);
    expect(await door.send(await door.sign({ key: next }))).toMatch(/^HTTP\/1.1 200 /);
    expect(await door.send(await door.sign())).toMatch(/^HTTP\/1.1 200 /);

    const file = JSON.parse(readFileSync(door.trustFile, "utf8")) as { keys: PrivateKey[] };
    writeFileSync(door.trustFile, JSON.stringify({ keys: file.keys.filter(({ kid }) => kid === next.kid) }));
    expect(await refusal(door, await door.sign())).toBe("unknown_key");
    expect(await door.send(await door.sign({ key: next }))).toMatch(/^HTTP\/1.1 200 /);
  });

  test("stay the last good ones while the file is malformed or gone", async () => {
    await using door = await startDoor();
    const broken = ["{", "{}", '{"keys":[{}]}', JSON.stringify({ keys: [door.key] })];
    for (const text of broken) {
      writeFileSync(door.trustFile, text);
      expect(await door.send(await door.sign())).toMatch(/^HTTP\/1.1 200 /);
      expect(door.log.at(-1)).toMatchObject({ event: "trust_file_broken" });
    }
    rmSync(door.trustFile);
    expect(await door.send(await door.sign())).toMatch(/^HTTP\/1.1 200 /);

    writeFileSync(door.trustFile, '{"keys":[]}');
    expect(await refusal(door, await door.sign())).toBe("unknown_key");
  });

  test("must be there and well-formed at the start, and never private", async () => {
    await using door = await startDoor();
    const bad: [string, RegExp][] = [
      ["{", /JSON/],
      ['{"keys":[]}', /trusts no key/],
      ['{"keys":[{"kty":"RSA"}]}', /kty/],
      [JSON.stringify({ keys: [door.key] }), /this is a private key/],
      [readFileSync(door.trustFile, "utf8").replace(/"x": "[^"]+"/, '"x": "AAAA"'), /32 bytes/],
    ];
    for (const [text, reason] of bad) {
      writeFileSync(door.trustFile, text);
      const opening = openTrustedKeys(door.trustFile, () => {});
      await expect(opening).rejects.toThrow(reason);
      await expect(opening).rejects.toThrow(/^HUB_AGENT_TRUST: /);
    }
    await expect(openTrustedKeys(join(door.dir, "none"), () => {})).rejects.toThrow(/agent-pair/);
  });
});
