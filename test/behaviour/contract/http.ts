import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { type Deploy, type Hub, startHub } from "../../support/hub.ts";
import { servedDocument } from "../../support/openapi-check.ts";
import { rawRequest } from "../../support/raw-socket.ts";

/** What holds for every route: methods, HEAD, ids, headers. */
export function httpContract(deploy: Deploy): void {
  describe("HTTP", () => {
    let hub: Hub;
    let run: { run_id: string; source: string };
    let script: string;
    beforeAll(async () => {
      hub = await startHub({ deploy });
      script = await hub.script("http.sh", "echo hello");
      const launched = await hub.post("/api/v1/scripts/runs", { path: script });
      run = await hub.ended(launched.json);
    });
    afterAll(() => hub[Symbol.asyncDispose]());

    /** The documented paths with their methods, and with values in their places. */
    async function operations(): Promise<{ path: string; methods: string[] }[]> {
      const { paths } = await servedDocument(hub.url);
      return Object.entries(paths).map(([template, methods]) => ({
        path: template.replace("{run_id}", run.run_id),
        methods: Object.keys(methods).map((method) => method.toUpperCase()),
      }));
    }

    test("a kill without a body works with any Content-Type, because many clients send one all the same", async () => {
      const types = [
        "application/json",
        "application/x-www-form-urlencoded",
        "text/plain;charset=UTF-8",
        "a/b; c",
      ];
      for (const type of types) {
        const launched = await hub.runScript("exec sleep 60");
        const headers = { "content-type": type, "content-encoding": "gzip" };
        const url = `/api/v1/scripts/runs/${launched.run_id}/kill`;
        const { status, json } = await hub.ask("POST", url, { headers });
        expect({ status, run: json.status }, type).toEqual({ status: 200, run: "killed" });
        expect((await hub.ask("POST", url, { headers, body: "" })).status, `${type} again`).toBe(200);
        expect((await hub.post(url, "x", { headers: { "content-type": "a/b" } })).status, "with a body").toBe(
          415,
        );
        await hub.ended(launched);
      }
      const empty = await hub.ask("POST", "/api/v1/scripts/runs", {
        headers: { "content-type": "text/plain" },
      });
      expect(empty.json).toMatchObject({ status: 400, detail: expect.stringContaining("body: is missing") });
    });

    test("an unsupported method answers 405 with the supported ones", async () => {
      for (const { path, methods } of [
        ...(await operations()),
        { path: "/openapi.json", methods: ["GET"] },
        { path: "/openapi-3.0.json", methods: ["GET"] },
      ]) {
        const allowed = methods.includes("GET") ? [...methods, "HEAD"] : methods;
        const others = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].filter(
          (m) => !allowed.includes(m),
        );
        for (const method of others) {
          const { status, headers, json } = await hub.ask(method, path);
          expect({ status, code: json.code }, `${method} ${path}`).toEqual({
            status: 405,
            code: "method_not_allowed",
          });
          expect(headers.get("allow")!.split(", ").toSorted(), `${method} ${path}`).toEqual(
            allowed.toSorted(),
          );
        }
      }
    });

    test("HEAD answers like GET, without the body", async () => {
      const queries: Record<string, string> = {
        "/api/v1/scripts/content": `?path=${encodeURIComponent(script)}`,
      };
      const gets = (await operations())
        .filter(({ methods }) => methods.includes("GET"))
        .map(({ path }) => path);
      for (const path of [...gets, "/openapi.json", "/api/v1/none", "/api/v1/scripts/runs/x"]) {
        const url = path + (queries[path] ?? "");
        // A compressed answer has the length of the compressed bytes, and only if it is known.
        const how = { headers: { "accept-encoding": "identity" } };
        const get = await hub.get(url, how);
        const head = await hub.ask("HEAD", url, how);
        expect(head.status, url).toBe(get.status);
        expect(lasting(head.headers), url).toEqual(lasting(get.headers));
        expect(head.bytes, url).toHaveLength(0);
      }
    });

    test("an unknown route answers with a 404 problem", async () => {
      const paths = [
        "/",
        "/api",
        "/api/v1",
        "/api/v2/scripts",
        "/api/v1/pipelines",
        "/api/v1/scripts/nope",
        "/API/v1/scripts",
        "/api//v1/scripts",
        "//evil.example/api/v1/scripts",
        "/openapiXjson",
        "/.env",
        "/__proto__",
        "/constructor",
        "/api/v1/scripts/runs/a/b/c",
      ];
      for (const path of paths) {
        // GET / leads to the console.
        for (const method of path === "/" ? ["POST", "DELETE"] : ["GET", "POST", "DELETE"]) {
          // The checks of hub.ask make a URL of the path, and would read //evil.example as a host.
          const response = await fetch(hub.url + path, { method });
          expect(await response.json(), `${method} ${path}`).toMatchObject({
            status: 404,
            code: "route_not_found",
          });
        }
      }
    });

    test("a valid X-Request-Id is returned and an invalid one is replaced", async () => {
      const send = async (id: string) => {
        const { headers, json } = await hub.get("/api/v1/none", { headers: { "x-request-id": id } });
        expect(json.request_id).toBe(headers.get("x-request-id"));
        return json.request_id as string;
      };
      for (const id of ["a", "job-1.2:3_4", "x".repeat(128)]) expect(await send(id)).toBe(id);
      for (const id of ["", "a b", "x".repeat(129), "a,b", "é", "<b>", "a/b", "{}"]) {
        expect(await send(id)).toMatch(/^[0-9a-f-]{36}$/);
      }
      const one = await hub.get("/healthz");
      const two = await hub.get("/healthz");
      expect(one.headers.get("x-request-id")).not.toBe(two.headers.get("x-request-id"));
    });

    test("every answer forbids sniffing, framing and caching", async () => {
      const answers = [
        await hub.get("/healthz"),
        await hub.get("/api/v1/scripts"),
        await hub.get(`/api/v1/scripts/runs/${run.run_id}/logs`, { headers: { accept: "text/plain" } }),
        await hub.get("/api/v1/scripts", { key: null }),
        await hub.get("/api/v1/none"),
        await hub.ask("PUT", "/api/v1/scripts"),
        await hub.post("/api/v1/scripts/runs", "{"),
      ];
      for (const { headers } of answers) {
        expect(headers.get("cache-control")).toBe("no-store");
        expect(headers.get("x-content-type-options")).toBe("nosniff");
        expect(headers.get("content-security-policy")).toContain("default-src 'none'");
        expect(headers.get("server")).toBeNull();
        expect(headers.get("x-powered-by")).toBeNull();
      }
    });

    test("no input of a client can split an answer into two", async () => {
      const lines = [
        "%0d%0aset-cookie:%20a=b",
        "%0a%0aHTTP/1.1%20200%20OK",
        "%E5%98%8A%E5%98%8Dset-cookie:a=b",
      ];
      for (const text of lines) {
        for (const path of [
          `/api/v1/scripts/runs/${text}`,
          `/api/v1/scripts?path=${text}`,
          `/${text}`,
          `/api/v1/scripts?${text}=1`,
        ]) {
          const answer = await rawRequest(
            hub.url,
            `GET ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk_test_all_0123456789abcdef\r\nX-Request-Id: a\r\nConnection: close\r\n\r\n`,
          );
          expect(answer.status).toBeGreaterThanOrEqual(400);
          expect(answer.headers.has("set-cookie")).toBe(false);
          expect(answer.text.match(/^HTTP\/1\.1 /gm)).toHaveLength(1);
        }
      }
    });
  });
}

/** The headers that two answers to the same question share. */
function lasting(headers: Headers): Record<string, string> {
  const fleeting = new Set(["date", "x-request-id", "connection", "keep-alive"]);
  return Object.fromEntries([...headers].filter(([name]) => !fleeting.has(name)));
}
