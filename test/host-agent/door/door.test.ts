import { gzipSync } from "node:zlib";

import * as fc from "fast-check";
import { createSignature, webcrypto } from "http-message-sig";
import { describe, expect, test } from "vitest";

import { makeAgentKey } from "../../../adapters/keys/agent-pair.ts";
import { contentDigest, requestSigner } from "../../../host-agent/protocol/signature.ts";
import {
  AGENT,
  BODY,
  header,
  REFUSED,
  refusal,
  sha512,
  signerOfAnotherForm,
  START_MS,
  startDoor,
  UNREADABLE,
  type Wire,
  withHeader,
  withoutHeader,
} from "./real-door.ts";

/** What the door promises, it promises for every form of a signature: one that it reads itself, and one that it leaves to a full parser. */
const SIGNINGS = [
  ["signed as the edges sign", requestSigner],
  ["signed in another form of RFC 9421", signerOfAnotherForm],
] as const;

describe.each(SIGNINGS)("the door of the agent, for requests that are %s,", (_form, signing) => {
  test("admits a request that a trusted key has signed, with a body and without", async () => {
    await using door = await startDoor(signing);

    expect(await door.send(await door.sign())).toMatch(/^HTTP\/1.1 200 /);
    expect(
      await door.send(await door.sign({ method: "GET", target: "/agent/v1/health", body: undefined })),
    ).toMatch(/^HTTP\/1.1 200 /);

    expect(door.served).toEqual([`POST /agent/v1/runs ${BODY}`, "GET /agent/v1/health "]);
    expect(door.log).toEqual([]);
  });

  test("refuses a request that is not signed at all", async () => {
    await using door = await startDoor(signing);
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

  test("refuses a request that it has admitted before, and one of two at the same time", async () => {
    await using door = await startDoor(signing);
    const wire = await door.sign();
    const twice = await door.sign();

    await door.send(wire);
    expect(await refusal(door, wire)).toBe("replayed");
    const answers = await Promise.all([door.send(twice), door.send(twice), door.send(twice)]);

    expect(answers.filter((answer) => answer.startsWith("HTTP/1.1 200 "))).toHaveLength(1);
    expect(door.served).toHaveLength(2);
  });

  test("refuses another method, path, query, host, body or content type than the signed one", async () => {
    await using door = await startDoor(signing);
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
    await using door = await startDoor(signing);
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
    await using door = await startDoor(signing);
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

  test("refuses a signature that is older than a minute, or more than five seconds ahead", async () => {
    await using door = await startDoor(signing);
    door.clock.now = START_MS + 600_000;
    const signedAt = (seconds: number) => door.sign({ at: door.clock.now + seconds * 1000 });

    expect(await refusal(door, await signedAt(-61))).toBe("too_old");
    expect(await refusal(door, await signedAt(6))).toBe("from_the_future");

    expect(await door.send(await signedAt(-60))).toMatch(/^HTTP\/1.1 200 /);
    expect(await door.send(await signedAt(5))).toMatch(/^HTTP\/1.1 200 /);
  });

  test("refuses what is signed for an agent of another name, or by a key that it does not know", async () => {
    await using door = await startDoor(signing);
    const stranger = await makeAgentKey();

    expect(await refusal(door, await door.sign({ agentName: "host-agent-2" }))).toBe("wrong_tag");
    expect(await refusal(door, await door.sign({ key: stranger }))).toBe("unknown_key");
    expect(await refusal(door, await door.sign({ key: { ...stranger, kid: door.key.kid } }))).toBe(
      "bad_signature",
    );
  });

  test("refuses a signature that leaves something out", async () => {
    await using door = await startDoor(signing);
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

  test("refuses a body that was added to a request signed without one, with any method", async () => {
    await using door = await startDoor(signing);
    const bare = await door.sign({ body: undefined });
    const get = await door.sign({ method: "GET", body: undefined });

    expect(await refusal(door, { ...bare, body: BODY })).toBe("missing_digest");
    expect(await refusal(door, { ...get, body: BODY })).toBe("missing_digest");
  });

  test("refuses duplicate headers", async () => {
    await using door = await startDoor(signing);
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

  test("refuses any other content of the signature headers, and never fails on it", async () => {
    await using door = await startDoor(signing);
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

  test("refuses a body of more than a mebibyte, signed or not, and continues to serve", async () => {
    await using door = await startDoor(signing);
    const huge = "x".repeat(1_048_577);

    expect(await refusal(door, await door.sign({ body: huge }))).toBe("body_too_large");
    expect((await door.send({ ...(await door.sign()), headers: [], body: huge })).slice(0, 12)).toMatch(
      /^(?:HTTP\/1.1 401)?$/,
    );

    expect(await door.send(await door.sign({ body: huge.slice(1) }))).toMatch(/^HTTP\/1.1 200 /);
  });

  test("treats a zip, a bomb and junk as plain bytes, unpacks nothing and continues to serve", async () => {
    await using door = await startDoor(signing);
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
    await using door = await startDoor(signing);
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
    await using door = await startDoor(signing);
    const stranger = await makeAgentKey();
    for (let i = 0; i < 50; i++) {
      await door.send(await door.sign({ key: i % 2 === 0 ? stranger : { ...stranger, kid: door.key.kid } }));
    }
    expect(door.nonces.count()).toBe(0);
  });

  test("a clock that is set back and forth does not admit a replay", async () => {
    await using door = await startDoor(signing);
    const wire = await door.sign();
    await door.send(wire);

    door.clock.set(120_000);
    await door.send(await door.sign());
    door.clock.set(-120_000);

    expect(await refusal(door, wire)).toBe("before_start");
  });
});
