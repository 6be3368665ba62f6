import * as fc from "fast-check";
import { createSignature, verifySignature, webcrypto } from "http-message-sig";
import { describe, expect, test } from "vitest";

import {
  readForm,
  type RequestHead,
  type SignatureForm,
  writeForm,
} from "../../../host-agent/protocol/signature-form.ts";

const { privateKey, publicKey } = (await crypto.subtle.generateKey({ name: "Ed25519" }, true, [
  "sign",
  "verify",
])) as unknown as { privateKey: CryptoKey; publicKey: CryptoKey };
const signer = webcrypto.signer(privateKey);
const verifier = webcrypto.verifier(publicKey);
const sign = async (base: Uint8Array) => signer.sign(base);

const HEAD = ["@method", "@authority", "@path", "@query"];
const BODY = ["content-digest", "content-type"];
const FORM: SignatureForm = {
  created: 1_800_000_000,
  nonce: "0123456789abcdef",
  keyId: "edge-1",
  tag: "host-agent",
  isBodyCovered: true,
};
const URL_HERE = "http://agent.internal:8788/agent/v1/runs?a=1";
const DIGEST = `sha-256=:${btoa("x".repeat(32))}:`;
const TYPE = "application/json";

const headOf = (url = URL_HERE, method = "POST", digest = DIGEST, type = TYPE): RequestHead => ({
  method,
  url,
  headers: new Headers({ "content-digest": digest, "content-type": type }),
});

async function written(head: RequestHead, form: SignatureForm): Promise<RequestHead> {
  const { signature, signatureInput } = await writeForm(head, form, sign);
  return withSignature(head, signature, signatureInput);
}

function withSignature(head: RequestHead, signature: string, signatureInput: string): RequestHead {
  const headers = new Headers(head.headers);
  headers.set("signature", signature);
  headers.set("signature-input", signatureInput);
  return { ...head, headers };
}

const fieldsOf = ({ headers }: RequestHead) => [...headers].map(([name, value]) => ({ name, value }));

/** What a full parser makes of the same request, whether or not the signature is right. Rejects when it is malformed. */
async function parsed(head: RequestHead) {
  let bytes: { base: Uint8Array; signature: Uint8Array } | undefined;
  const { components, parameters } = await verifySignature(
    { kind: "request", method: head.method, targetUri: head.url, fields: fieldsOf(head) },
    {
      label: "hub",
      policy: {
        algorithms: ["ed25519"],
        requiredComponents: HEAD,
        requiredParameters: ["created", "nonce", "keyid", "tag", "alg"],
        clockSkew: Number.MAX_SAFE_INTEGER,
        now: 0,
      },
      resolveVerifier: () => ({
        algorithm: "ed25519",
        verify(base, signature) {
          bytes = { base, signature };
          return true;
        },
      }),
    },
  );
  const { created, nonce, keyid: keyId, tag } = parameters;
  const isBodyCovered = components.some(({ name }) => name === "content-digest");
  return { created, nonce, keyId, tag, isBodyCovered, ...bytes! };
}

const form = fc.record({
  created: fc.integer({ min: 0, max: 999_999_999_999_999 }),
  nonce: fc.stringMatching(/^[\w-]{16,64}$/),
  keyId: fc.stringMatching(/^[\w.:-]{1,100}$/),
  tag: fc.stringMatching(/^[ !#-[\]-~]{1,64}$/),
  isBodyCovered: fc.boolean(),
});
const url = fc
  .tuple(
    fc.constantFrom(
      "http://agent.internal:8788",
      "https://a.b",
      "http://a:80",
      "http://[::1]:1",
      "http://127.1",
    ),
    fc.constantFrom("", "/", "//", "/agent/v1/runs", "/%72uns/..", "/a'b|c;d=e:f@g"),
    fc.constantFrom("", "?", "?a=1", "?a=%20&b='\"<>", "??/?", "?a=/b"),
  )
  .map((parts) => parts.join(""));

describe("the one form of a signature", () => {
  test("is what a full implementation of RFC 9421 writes, byte for byte", async () => {
    await fc.assert(
      fc.asyncProperty(url, form, fc.constantFrom("GET", "POST"), async (target, given, method) => {
        const head = headOf(target, method);
        const { created, nonce, keyId: keyid, tag, isBodyCovered } = given;
        const full = await createSignature(
          { kind: "request", method, targetUri: target, fields: fieldsOf(head) },
          {
            label: "hub",
            components: isBodyCovered ? [...HEAD, ...BODY] : HEAD,
            parameters: { created, nonce, keyid, tag, alg: "ed25519" },
            signer,
          },
        );
        expect(await writeForm(head, given, sign)).toEqual(full);
      }),
    );
  });

  test("reads back as it was written, with the bytes that verify", async () => {
    await fc.assert(
      fc.asyncProperty(url, form, async (target, given) => {
        const head = await written(headOf(target), given);
        const { base, signature, ...read } = readForm(head)!;
        expect(read).toEqual(given);
        expect(await verifier.verify(base, signature)).toBe(true);
      }),
    );
  });

  test("is read as a full parser reads it, whatever was changed in the request", async () => {
    const text = fc.oneof(
      fc.string({ maxLength: 3 }),
      fc.constantFrom(
        "#",
        "#f",
        "\\",
        "@",
        ":",
        "/",
        "?",
        '"',
        ";",
        ",",
        " ",
        "\t",
        "0",
        "=",
        ";x=1",
        "hub=",
        "é",
      ),
    );
    const part = fc.constantFrom(
      "url",
      "method",
      "signature",
      "signature-input",
      "content-digest",
      "content-type",
    );
    let same = 0;
    await fc.assert(
      fc.asyncProperty(
        url,
        form,
        part,
        fc.nat(),
        fc.nat(2),
        text,
        async (target, given, name, at, cut, insert) => {
          const head = await written(headOf(target), given);
          const change = (value: string) => {
            const from = at % (value.length + 1);
            return value.slice(0, from) + insert + value.slice(from + cut);
          };
          let altered: RequestHead;
          if (name === "url") altered = { ...head, url: change(head.url) };
          else if (name === "method") altered = { ...head, method: change(head.method) };
          else {
            const headers = new Headers(head.headers);
            try {
              headers.set(name, change(head.headers.get(name)!));
            } catch {
              // No HTTP header has this value.
              return;
            }
            altered = { ...head, headers };
          }
          if (!URL.canParse(altered.url)) return;
          const read = readForm(altered);
          if (read === undefined) return;
          same++;
          expect({ ...read }).toEqual(await parsed(altered));
        },
      ),
      { numRuns: 2_000 },
    );
    expect(same).toBeGreaterThan(100);
  });

  test.for([
    ["another label", "$1", /^hub/],
    ["a second label", '$1, b=("@method");alg="ed25519"', /^(.*)$/],
    ["another order of the parameters", ';alg="ed25519";created=1', /;created=1(?=;)/],
    ["another algorithm", 'alg="hmac-sha256"', /alg="ed25519"/],
    ["a parameter more", ';expires=1;alg="ed25519"', /;alg="ed25519"/],
    ["a parameter less", "", /;alg="ed25519"/],
    ["a component less", "", / "@query"/],
    ["a component with a parameter", '"@query";req', /"@query"/],
    ["a half-covered body", "", / "content-type"/],
    ["a time with a leading zero", "created=01", /created=1/],
    ["a time of 16 digits", "created=1234567890123456", /created=1/],
    ["a short nonce", 'nonce="short"', /nonce="[^"]*"/],
    ["an escaped character", 'tag="a\\"b"', /tag="[^"]*"/],
    ["spaces", "(  ", /\(/],
  ] as const)("is not seen in a signature with %s", async ([, to, from]) => {
    const head = await written(headOf(), { ...FORM, created: 1 });
    const signature = head.headers.get("signature")!;
    const input = head.headers.get("signature-input")!;
    expect(readForm(head)).toBeDefined();
    const altered = input.replace(from, to);
    expect(altered).not.toBe(input);
    expect(readForm(withSignature(head, signature, altered))).toBeUndefined();
  });

  test("is not seen in a signature of another length, or in one with bits that mean nothing", async () => {
    const head = await written(headOf(), FORM);
    const input = head.headers.get("signature-input")!;
    const of = (text: string) => readForm(withSignature(head, `hub=:${text}:`, input));
    expect(of(btoa("x".repeat(64)))).toBeDefined();
    expect(readForm(withSignature(head, "", input)), "none").toBeUndefined();
    for (const length of [0, 1, 32, 63, 65, 128])
      expect(of(btoa("x".repeat(length))), String(length)).toBeUndefined();
    expect(of(btoa("x".repeat(64)).replace("==", "")), "without padding").toBeUndefined();
    expect(of(btoa("x".repeat(64)).replace(/.==$/, "B==")), "with bits in the padding").toBeUndefined();
  });

  test("escapes the name of an agent, and cannot express what is not ASCII", async () => {
    const { signatureInput } = await writeForm(headOf(), { ...FORM, tag: 'a"b\\c' }, sign);
    expect(signatureInput).toContain(';tag="a\\"b\\\\c";');
    for (const [head, tag] of [
      [headOf(), "é"],
      [headOf("http://a/é"), "a"],
      [{ ...headOf(), headers: new Headers() }, "a"],
    ] as const) {
      await expect(writeForm(head, { ...FORM, tag }, sign)).rejects.toThrow(TypeError);
    }
  });
});
