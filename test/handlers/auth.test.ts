import { describe, expect, test } from "vitest";

import {
  authorize,
  type KeyEntry,
  type KeyRing,
  type Scope,
  SCOPES,
  scopesHeader,
} from "../../handlers/auth.ts";
import type { ApiProblem } from "../../host-agent/protocol/problem.ts";
import { sha256 } from "../../host-agent/system/sha256.ts";

const KEY = "sk_test_0123456789abcdef";
const NOW = 1_800_000_000_000;
const URL_HERE = "http://127.0.0.1:8787/api/v1/scripts";

interface Ask {
  ring?: KeyRing;
  scope?: Scope;
  headers?: Record<string, string>;
  url?: string;
}

function ask({ ring = ringOf({}), scope = "scripts:read", headers = bearer(KEY), url = URL_HERE }: Ask) {
  return authorize(new Request(url, { headers }), scope, { ring, digest: sha256, now: NOW });
}

/** What the request is refused with. */
async function refusal(given: Ask) {
  return ask(given).then(
    ({ name }) => expect.fail(`${name} was let in`),
    ({ code, message, extras }: ApiProblem) => ({ code, message, ...extras }),
  );
}

const bearer = (key: string) => ({ authorization: `Bearer ${key}` });

function ringOf(changes: Partial<KeyEntry>): KeyRing {
  const entry: KeyEntry = { name: "acme", scopes: ["scripts:read"], expiresAt: undefined, ...changes };
  return { mode: "enforced", keys: new Map([[sha256(KEY), entry]]) };
}

describe("an API key", () => {
  test("opens what its scopes name, by its name, with its scopes and not in dev mode", async () => {
    expect(await ask({})).toEqual({ name: "acme", dev: false, scopes: ["scripts:read"] });
    expect(await ask({ ring: ringOf({ scopes: ["*"] }), scope: "pipelines:write" })).toEqual({
      name: "acme",
      dev: false,
      scopes: ["*"],
    });
  });

  test("is refused from the very millisecond of its expiry, and good until the one before", async () => {
    expect(await ask({ ring: ringOf({ expiresAt: NOW + 1 }) })).toMatchObject({ name: "acme" });
    for (const expiresAt of [NOW, NOW - 1]) {
      expect(await refusal({ ring: ringOf({ expiresAt }) })).toMatchObject({
        code: "unauthenticated",
        message: `The API key acme expired at ${new Date(expiresAt).toISOString()}. Ask the operator for a new one`,
        headers: { "www-authenticate": 'Bearer realm="hub", error="invalid_token"' },
      });
    }
  });

  test("without the scope is refused with the scope that it lacks", async () => {
    const ring = ringOf({ scopes: ["scripts:read", "pipelines:read"] });
    expect(await refusal({ ring, scope: "scripts:write" })).toMatchObject({
      code: "insufficient_scope",
      message:
        "The API key acme does not have the scope scripts:write. Ask the operator for a key that has it",
      headers: {
        "hub-scopes": "scripts:read pipelines:read",
        "www-authenticate": 'Bearer realm="hub", error="insufficient_scope", scope="scripts:write"',
      },
    });
  });

  test("that nobody knows is refused with what to do", async () => {
    expect(await refusal({ headers: bearer("other") })).toMatchObject({
      code: "unauthenticated",
      message: "The API key is unknown. Check it, or ask the operator",
      headers: { "www-authenticate": 'Bearer realm="hub", error="invalid_token"' },
    });
  });

  test("that was not sent is asked for, without an error in the challenge", async () => {
    expect(await refusal({ headers: {} })).toMatchObject({
      code: "unauthenticated",
      message: "Send your API key in the header `Authorization: Bearer <key>`",
      headers: { "www-authenticate": 'Bearer realm="hub"' },
    });
  });

  test("of 512 characters is looked up, and of 513 refused as no key", async () => {
    const longest = "k".repeat(512);
    const keys = new Map([[sha256(longest), { name: "long", scopes: ["*"], expiresAt: undefined }]]);
    expect(await ask({ ring: { mode: "enforced", keys }, headers: bearer(longest) })).toMatchObject({
      name: "long",
    });
    for (const authorization of [`Bearer ${longest}k`, `Basic ${KEY}`, `Bearer ${KEY} x`]) {
      expect(await refusal({ headers: { authorization } }), authorization.slice(0, 20)).toMatchObject({
        code: "unauthenticated",
        message: "The Authorization header must be `Bearer <key>`",
        headers: { "www-authenticate": 'Bearer realm="hub", error="invalid_request"' },
      });
    }
  });

  test("is refused while the keys cannot be read, and the client learns when to retry", async () => {
    expect(await refusal({ ring: { mode: "unavailable" } })).toMatchObject({
      code: "keys_unavailable",
      message:
        "The API keys cannot be read, so every request is refused. The operator finds the cause in the log",
      retryAfterSeconds: 10,
    });
  });
});

test("a caller in dev mode has no scopes, and gets no header that lists them", () => {
  expect(scopesHeader({})).toEqual({});
  expect(scopesHeader({ scopes: [] })).toEqual({ "hub-scopes": "" });
});

describe("dev mode", () => {
  const local: KeyRing = { mode: "dev", audience: { localOnly: true, hosts: [] } };
  const FOREIGN: [string, string, Record<string, string>][] = [
    ["header.host: must be localhost or a loopback address", "http://evil.example/", {}],
    [
      "header.sec-fetch-site: the request comes from a page of another site",
      URL_HERE,
      { "sec-fetch-site": "cross-site" },
    ],
    [
      "header.origin: the request comes from a page of another site",
      URL_HERE,
      { origin: "https://evil.example" },
    ],
    ["header.origin: the request comes from a page of another site", URL_HERE, { origin: "null" }],
    ...["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "cf-connecting-ip"].map(
      (name): [string, string, Record<string, string>] => [
        `header.${name}: the request comes through a proxy`,
        URL_HERE,
        { [name]: "x" },
      ],
    ),
  ];

  test.for(FOREIGN)(
    "on loopback refuses what comes from elsewhere: %s, %s %o",
    async ([fault, url, headers]) => {
      expect(await refusal({ ring: local, headers, url })).toMatchObject({
        code: "local_only",
        message: expect.stringContaining(fault),
      });
    },
  );

  test("on loopback serves this machine, and pages that it has served itself", async () => {
    const own = [{}, { "sec-fetch-site": "same-origin" }, { origin: "http://localhost:8787" }];
    for (const headers of own) {
      expect(await ask({ ring: local, headers })).toEqual({ name: "dev", dev: true });
    }
  });
});

test("the scopes that keys may have are those of the API document", () => {
  expect(SCOPES).toEqual(["pipelines:read", "pipelines:write", "scripts:read", "scripts:write"]);
});
