import { brotliCompressSync } from "node:zlib";

import { describe, expect, test } from "vitest";

import { type Deploy, startHub } from "../../support/hub.ts";

const MAX_CONSOLE_BYTES = 150_000;
const ASSET = /(?<=")assets\/[\w.-]+/g;

/** The pages and their files as they go over the wire. */
export function pagesTests(deploy: Deploy): void {
  describe("the pages' files", () => {
    test.for(["/console", "/docs"])(
      "the policy of %s allows scripts and files of this origin only",
      async (path) => {
        await using hub = await startHub({ deploy });

        const page = await hub.get(path, { key: null });

        expect(page.status).toBe(200);
        expect(page.headers.get("content-type")).toBe("text/html; charset=utf-8");
        expect(page.headers.get("content-security-policy")?.split("; ")).toEqual([
          "default-src 'none'",
          "script-src 'self'",
          "style-src 'self'",
          "connect-src 'self'",
          "img-src 'self' data:",
          "base-uri 'none'",
          "form-action 'none'",
          "frame-ancestors 'none'",
        ]);
        expect(page.headers.get("x-content-type-options")).toBe("nosniff");
        expect(page.headers.get("referrer-policy")).toBe("no-referrer");
        const html = new TextDecoder().decode(page.bytes);
        expect(html).not.toMatch(/https?:|<script>|<style| style=| on\w+=/);
        for (const file of html.match(ASSET)!) {
          const answer = await hub.get(`/${file}`, { key: null });
          expect([file, answer.status]).toEqual([file, 200]);
          expect(answer.headers.get("cache-control")).toBe("public, max-age=31536000, immutable");
          expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
        }
      },
    );

    test("a page is requested each time, and answered with 304 if it has not changed", async () => {
      await using hub = await startHub({ deploy });
      const page = await hub.get("/console");
      const etag = page.headers.get("etag")!;

      expect(page.headers.get("cache-control")).toBe("no-cache");
      const same = await hub.get("/console", { headers: { "if-none-match": `"other", W/${etag}` } });
      expect([same.status, same.bytes.length, same.headers.get("etag")]).toEqual([304, 0, etag]);
      const head = await hub.ask("HEAD", "/console", { headers: { "if-none-match": etag } });
      expect([head.status, head.bytes.length, head.headers.get("etag")]).toEqual([304, 0, etag]);
      expect((await hub.get("/console", { headers: { "if-none-match": '"other"' } })).status).toBe(200);
    });

    test("the bare address leads to the console", async () => {
      await using hub = await startHub({ deploy });
      const answer = await fetch(`${hub.url}/`, { redirect: "manual" });
      expect([answer.status, answer.headers.get("location")]).toEqual([302, "console"]);
      expect((await fetch(`${hub.url}/`)).url).toBe(`${hub.url}/console`);
    });

    test("HEAD answers as GET without a body, and another method is answered with the allowed ones", async () => {
      await using hub = await startHub({ deploy });
      const page = await hub.get("/console");
      const head = await hub.ask("HEAD", "/console");
      expect([head.status, head.bytes.length, head.headers.get("etag")]).toEqual([
        200,
        0,
        page.headers.get("etag"),
      ]);

      const posted = await hub.post("/docs", {});
      expect([posted.status, posted.headers.get("allow"), posted.json.code]).toEqual([
        405,
        "GET, HEAD",
        "method_not_allowed",
      ]);
    });

    test("paths other than the pages' own files are answered with 404", async () => {
      await using hub = await startHub({ deploy });
      for (const path of [
        "/assets/console.html",
        "/assets/nothing-AAAAAAAA.js",
        "/assets/..%2f..%2fpackage.json",
        "/assets/..%2fassets-folder-AAAAAAAA.ts",
        "/assets/%00",
        "/console/../assets/",
      ]) {
        const answer = await hub.get(path);
        expect([path, answer.status, answer.json.code]).toEqual([path, 404, "route_not_found"]);
      }
    });

    test("the console is smaller than 150 KB compressed", async () => {
      await using hub = await startHub({ deploy });
      const page = await hub.get("/console");
      let weight = page.bytes.length;
      for (const file of new TextDecoder().decode(page.bytes).match(ASSET)!) {
        // fetch has removed the compression, so the files are compressed again to measure them.
        weight += brotliCompressSync((await hub.get(`/${file}`)).bytes).length;
      }
      expect(weight).toBeLessThan(MAX_CONSOLE_BYTES);
    });
  });
}

/** How files travel from a server of our own; in front of a Worker the network compresses. */
export function compressionTests(deploy: Deploy): void {
  test("files are sent compressed to clients that accept it, and plain to others", async () => {
    await using hub = await startHub({ deploy });
    const page = await hub.get("/console");
    for (const file of new TextDecoder().decode(page.bytes).match(ASSET)!) {
      const answer = await hub.get(`/${file}`, { headers: { "accept-encoding": "br" } });
      expect(answer.headers.get("content-encoding")).toBe("br");
      const plain = await hub.get(`/${file}`, { headers: { "accept-encoding": "identity" } });
      expect(plain.headers.get("content-encoding")).toBeNull();
      expect(plain.bytes).toEqual(answer.bytes);
      expect(plain.headers.get("etag")).not.toBe(answer.headers.get("etag"));
    }
  });
}
