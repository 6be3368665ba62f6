import { writeFile } from "node:fs/promises";
import { request as httpRequest } from "node:http";
import { hostname } from "node:os";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { sha256 } from "../../../host-agent/system/sha256.ts";
import { SCOPES } from "../../../handlers/auth.ts";
import { ALL, type Deploy, type Hub, startHub } from "../../support/hub.ts";

const RUN = "run_a1b2c3d4e5f6";
const DAY_MS = 86_400_000;

/** Every operation with the scope it needs, as the API document has it; undefined for a public one. */
const OPERATIONS = [
  ["GET", "/api/v1/pipelines/recipes", "pipelines:read"],
  ["POST", "/api/v1/pipelines/runs", "pipelines:write"],
  ["GET", "/api/v1/pipelines/runs", "pipelines:read"],
  ["GET", `/api/v1/pipelines/runs/${RUN}`, "pipelines:read"],
  ["GET", `/api/v1/pipelines/runs/${RUN}/logs`, "pipelines:read"],
  ["POST", `/api/v1/pipelines/runs/${RUN}/kill`, "pipelines:write"],
  ["GET", "/api/v1/scripts", "scripts:read"],
  ["GET", "/api/v1/scripts/content", "scripts:read"],
  ["POST", "/api/v1/scripts/runs", "scripts:write"],
  ["GET", "/api/v1/scripts/runs", "scripts:read"],
  ["GET", `/api/v1/scripts/runs/${RUN}`, "scripts:read"],
  ["GET", `/api/v1/scripts/runs/${RUN}/logs`, "scripts:read"],
  ["POST", `/api/v1/scripts/runs/${RUN}/kill`, "scripts:write"],
  ["GET", "/healthz", undefined],
  ["GET", "/openapi.json", undefined],
] as const;

const secretOf = (name: string) => `sk_test_${name.replaceAll(/\W/g, "_")}_0123456789abcdef`;
const day = (offset: number) => new Date(Date.now() + offset * DAY_MS).toISOString().slice(0, 10);
const moment = (offsetMs: number) => new Date(Date.now() + offsetMs).toISOString();

const TWO_SCOPES = ["pipelines:write", "scripts:read"];
const KEYS = [
  ...[...SCOPES, "*"].map((scope) => ({ name: scope, key: secretOf(scope), scopes: [scope] })),
  { name: "two-scopes", key: secretOf("two-scopes"), scopes: TWO_SCOPES },
  { name: "yesterday", key: secretOf("yesterday"), scopes: ["*"], expires: day(-1) },
  { name: "today", key: secretOf("today"), scopes: ["*"], expires: day(0) },
  { name: "just-over", key: secretOf("just-over"), scopes: ["*"], expires: moment(-1_000) },
  { name: "in-an-hour", key: secretOf("in-an-hour"), scopes: ["*"], expires: moment(3_600_000) },
  // What `printf sk_test_hashed | sha256sum` prints.
  {
    name: "hashed",
    key_sha256: "ec41b2628e1e2c9dec777d1c9b72aa13c3b3b8ab8358bc346d0b7fe6dc104792",
    scopes: ["*"],
  },
];

/** Who may do what, for every operation. */
export function authContract(deploy: Deploy): void {
  describe("authentication", () => {
    let hub: Hub;
    beforeAll(async () => {
      hub = await startHub({ deploy: withKeys(deploy) });
    });
    afterAll(() => hub[Symbol.asyncDispose]());

    async function expectOpen(authorization: string, because: string): Promise<void> {
      const { status } = await hub.get("/api/v1/scripts", { key: null, headers: { authorization } });
      expect(status, because).toBe(200);
    }

    test("every operation except the public ones answers 401 with a challenge without a valid key", async () => {
      const authorizations = [undefined, "Bearer wrong", `Bearer ${secretOf("yesterday")}`];
      for (const [method, path, scope] of OPERATIONS.filter(([, , needed]) => needed !== undefined)) {
        for (const authorization of authorizations) {
          const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
          const answer = await hub.ask(method, path, { key: null, headers });
          const what = `${method} ${path} (${scope}) with ${authorization}`;
          expect(answer.json, what).toMatchObject({ status: 401, code: "unauthenticated" });
          const challenge = `Bearer realm="hub"${authorization === undefined ? "" : ', error="invalid_token"'}`;
          expect(answer.headers.get("www-authenticate"), what).toBe(challenge);
        }
      }
    });

    test("the public operations need no key and ignore a wrong one", async () => {
      for (const path of ["/healthz", "/openapi.json"]) {
        for (const key of [null, "wrong"]) expect((await hub.get(path, { key })).status).toBe(200);
      }
    });

    test("a key opens the operations of its scope and no others, for HEAD as for GET", async () => {
      const scoped = OPERATIONS.filter(([, , scope]) => scope !== undefined);
      for (const [, path, needed] of scoped.filter(([verb]) => verb === "GET")) {
        for (const { name, key, scopes } of KEYS.filter((entry) => "key" in entry).slice(0, 7)) {
          const { status, bytes } = await hub.ask("HEAD", path, { key: key! });
          const isOpen = name !== "yesterday" && scopes.some((scope) => [needed, "*"].includes(scope));
          const refusal = name === "yesterday" ? 401 : 403;
          const shown = [401, 403].includes(status) ? status : "open";
          expect(shown, `HEAD ${path} with ${name}`).toBe(isOpen ? "open" : refusal);
          expect(bytes).toHaveLength(0);
        }
      }
      for (const [method, path, needed] of scoped) {
        for (const held of [needed!, "*", "two-scopes"]) {
          const { status } = await hub.ask(method, path, { key: secretOf(held) });
          const isRefused = held === "two-scopes" && !TWO_SCOPES.some((scope) => scope === needed);
          expect([401, 403].includes(status), `${method} ${path} with ${held}`).toBe(isRefused);
        }
        for (const held of SCOPES.filter((scope) => scope !== needed)) {
          const what = `${method} ${path} with ${held}`;
          const { headers, json } = await hub.ask(method, path, { key: secretOf(held) });
          expect(json, what).toMatchObject({ status: 403, code: "insufficient_scope" });
          expect(json.detail, what).toContain(needed);
          expect(headers.get("www-authenticate"), what).toBe(
            `Bearer realm="hub", error="insufficient_scope", scope="${needed}"`,
          );
        }
      }
    });

    test("an Authorization header of another form answers 401, even with a valid key in it", async () => {
      const key = secretOf("*");
      const forms = [
        "",
        key,
        "Bearer",
        "Bearer ",
        `Basic ${key}`,
        `Bearer${key}`,
        `Bearer\t${key}`,
        `Token ${key}`,
      ];
      const odd = [
        `Bearer ${key} x`,
        `Bearer ${key}, Bearer ${key}`,
        `Bearer "${key}"`,
        `Bearer ${key}\u00e9`,
        `Bearer ${"x".repeat(5_000)}`,
        `Bearer ${PROTOTYPE}`,
      ];
      for (const authorization of [...forms, ...odd]) {
        const { json } = await hub.get("/api/v1/scripts", { key: null, headers: { authorization } });
        expect(json, authorization.slice(0, 100)).toMatchObject({ status: 401, code: "unauthenticated" });
        expect(JSON.stringify(json)).not.toContain(key);
      }
    });

    test("the word Bearer is case-insensitive, the key is case-sensitive", async () => {
      const key = secretOf("*");
      for (const word of ["bearer", "BEARER", "Bearer "]) await expectOpen(`${word} ${key}`, word);
      const { status } = await hub.get("/api/v1/scripts", { key: key.toUpperCase() });
      expect(status).toBe(401);
    });

    test("a key is valid until the end of its expiry day, or until its expiry time", async () => {
      for (const name of ["today", "in-an-hour"]) await expectOpen(`Bearer ${secretOf(name)}`, name);
      for (const name of ["yesterday", "just-over"]) {
        const { json } = await hub.get("/api/v1/scripts", { key: secretOf(name) });
        expect(json, name).toMatchObject({ status: 401, detail: expect.stringContaining("expired") });
      }
    });

    test("a key stored as its SHA-256 is accepted; the SHA-256 itself is not", async () => {
      await expectOpen("Bearer sk_test_hashed", "the key");
      const hash = sha256("sk_test_hashed");
      expect((await hub.get("/api/v1/scripts", { key: hash })).status).toBe(401);
    });
  });

  describe("dev mode", () => {
    test("without keys every caller is served, and each answer reports dev mode", async () => {
      await using hub = await startHub({ deploy, keys: [] });
      const launched = await hub.post("/api/v1/pipelines/runs", { recipe_id: "hello" });
      expect(launched.status).toBe(201);
      expect(launched.json.key_name).toBe("dev");
      expect(launched.headers.get("hub-auth")).toBe("dev");
      await hub.ended(launched.json);
      const refused = await hub.get("/api/v1/pipelines/runs?limit=x", {
        headers: { authorization: "Basic x" },
      });
      expect(refused.status).toBe(422);
      expect(refused.headers.get("hub-auth")).toBe("dev");
      expect((await hub.get("/healthz")).json).toMatchObject({ status: "ok", mode: "dev" });
    });

    test("with keys no answer reports dev mode", async () => {
      await using hub = await startHub({ deploy, keys: [ALL] });
      expect((await hub.get("/api/v1/scripts")).headers.get("hub-auth")).toBeNull();
    });

    test("without keys no page of another site can launch, also with HUB_ALLOW_OPEN=1", async () => {
      await using hub = await startHub({ deploy, keys: [], env: { HUB_ALLOW_OPEN: "1" } });
      const { host } = new URL(hub.url);
      const foreign = [
        { "sec-fetch-site": "cross-site" },
        { origin: "https://evil.example" },
        { origin: "null" },
        { origin: `http://${host}.evil.example` },
        { origin: "http://localhost:3000", host: "10.0.0.1" },
      ];
      for (const headers of foreign) {
        const { status, json } = await plainRequest(hub.url, headers);
        expect({ status, code: json.code }, JSON.stringify(headers)).toEqual({
          status: 403,
          code: "local_only",
        });
      }
      const own = [{}, { origin: hub.url, "sec-fetch-site": "same-origin" }, { host: "10.0.0.1" }];
      for (const headers of own) {
        expect((await plainRequest(hub.url, headers)).status, JSON.stringify(headers)).toBe(422);
      }
    });
  });
}

/** The deployment with the keys of this file instead of the usual ones. */
function withKeys(deploy: Deploy): Deploy {
  return async (setup) => {
    await writeFile(setup.env["HUB_KEYS_FILE"]!, JSON.stringify({ keys: KEYS }), { mode: 0o600 });
    return deploy(setup);
  };
}

const PROTOTYPE = "__proto__";

/** A launch that is never valid, with headers that fetch would not send. */
function plainRequest(
  url: string,
  headers: Record<string, string>,
): Promise<{ status: number; json: { code: string } }> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(`${url}/api/v1/pipelines/runs`, {
      method: "POST",
      // A server may close the connection of a request that it refused before its body.
      agent: false,
      headers: { "content-type": "application/json", ...headers },
    });
    request.on("error", reject);
    request.on("response", (response) => {
      let text = "";
      response.on("data", (chunk) => (text += String(chunk)));
      response.on("end", () => resolve({ status: response.statusCode!, json: JSON.parse(text) }));
    });
    request.end("{}");
  });
}

/** Dev mode of a Hub that may be addressed by any name unless it refuses: a Worker's platform chooses the names. */
export function devHostsContract(deploy: Deploy): void {
  describe("dev mode with HUB_ALLOW_OPEN=1", () => {
    test("a name that somebody else may own is refused as Host, so that it cannot be made to mean this Hub", async () => {
      const env = { HUB_ALLOW_OPEN: "1", HUB_HOSTS: "hub.example, Other.Example" };
      await using hub = await startHub({ deploy, keys: [], env });
      const { port } = new URL(hub.url);
      for (const host of [
        "evil.example",
        `rebound.evil.example:${port}`,
        "hub.example.evil.example",
        "1.2.3.4.nip.io",
      ]) {
        const { status, json } = await plainRequest(hub.url, { host });
        expect({ status, code: json.code }, host).toEqual({ status: 403, code: "local_only" });
      }
      const own = [
        "hub.example",
        `OTHER.example:${port}`,
        "10.0.0.1",
        `[fd00::1]:${port}`,
        "localhost",
        hostname(),
      ];
      for (const host of own) expect((await plainRequest(hub.url, { host })).status, host).toBe(422);
    });
  });
}

/** Dev mode where the Hub listens on loopback: for people on this machine, not for pages in their browser. */
export function localDevContract(deploy: Deploy): void {
  describe("dev mode on loopback", () => {
    test("requests from pages of other sites are refused by Host or by the headers of the browser", async () => {
      await using hub = await startHub({ deploy, keys: [] });
      const { port } = new URL(hub.url);
      const foreign = [
        { host: "evil.example" },
        { host: `evil.example:${port}` },
        { host: `127.0.0.1.evil.example:${port}` },
        { host: `localhost.evil.example:${port}` },
        { host: "10.0.0.1" },
        { "sec-fetch-site": "cross-site" },
        // A proxy on this machine comes from loopback, too, and its clients name the host as they like.
        { "x-forwarded-for": "203.0.113.7" },
        { forwarded: "for=203.0.113.7" },
        { via: "1.1 proxy" },
      ];
      for (const headers of foreign) {
        const { status, json } = await plainRequest(hub.url, headers);
        expect({ status, code: json.code }, JSON.stringify(headers)).toEqual({
          status: 403,
          code: "local_only",
        });
      }
      const local = [
        { host: `localhost:${port}` },
        { host: `127.0.0.1:${port}` },
        { host: `[::1]:${port}` },
        { host: "127.1.2.3" },
        { "sec-fetch-site": "same-origin" },
        { "sec-fetch-site": "none" },
      ];
      for (const headers of local) {
        expect((await plainRequest(hub.url, headers)).status, JSON.stringify(headers)).toBe(422);
      }
      expect((await hub.get("/api/v1/pipelines/runs")).json.runs).toEqual([]);
    });
  });
}
