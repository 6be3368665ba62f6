import { execFileSync } from "node:child_process";
import { statSync } from "node:fs";
import { mkdir, open, rename, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { ALL, type Deploy, type Hub, sharedHub, startHub, until } from "../../support/hub.ts";
import { watchers } from "./log-watchers.ts";

const MIB = 1_048_576;
const REPLACEMENT = "\ufffd";
const RAW = { headers: { accept: "text/plain" } };
const GO = "until [ -e go ]; do sleep 0.02; done";

/** Reading logs, as every deployment does it. */
export function logsContract(deploy: Deploy): void {
  describe("log pages", () => {
    const shared = sharedHub({ deploy });

    test("pages shorter and longer than a character add up to the file, from every start", async () => {
      await expectWholePages(shared(), [1, 2, 3, 4, 5, 7, 64]);
    });

    test("bytes that are not UTF-8 become U+FFFD in the chunk, count one each, and come raw as text/plain", async () => {
      const hub = shared();
      const run = await hub.ended(await hub.runScript(String.raw`printf 'a\xff\xc3b'`));

      expect((await hub.get(logsOf(run))).json).toEqual({
        run_id: run.run_id,
        offset: 4,
        size: 4,
        chunk: `a${REPLACEMENT}${REPLACEMENT}b`,
        more: false,
      });
      for (const after of [0, 1, 2, 3]) {
        const { json } = await hub.get(`${logsOf(run)}?after=${after}&max_bytes=1`);
        expect(json).toMatchObject({ offset: after + 1, more: after < 3 });
      }
      expect([...(await hub.get(logsOf(run), RAW)).bytes]).toEqual([0x61, 0xff, 0xc3, 0x62]);
    });

    test("an incomplete character is held back while the run is alive", async () => {
      await using hub = await startHub({ deploy });
      const run = await hub.runScript(String.raw`printf 'a\xf0\x9f'; ${GO}; printf '\x98\x80b'`);
      await until(async () => (await hub.get(logsOf(run))).json.size === 3 || undefined);

      expect((await hub.get(logsOf(run))).json).toMatchObject({ chunk: "a", offset: 1, size: 3, more: true });
      const waiting = (await hub.get(`${logsOf(run)}?after=1`)).json;
      expect(waiting).toMatchObject({ chunk: "", offset: 1, size: 3, more: true });

      await writeFile(join(hub.root, "go"), "");
      await hub.ended(run);
      expect((await hub.get(`${logsOf(run)}?after=1`)).json).toMatchObject({
        chunk: "😀b",
        offset: 6,
        more: false,
      });
    });

    test.for([1, 2, 3, 4096])(
      "a character cut off by the end of the run becomes U+FFFD, with pages of %i bytes",
      async (max) => {
        const hub = shared();
        const run = await hub.ended(await hub.runScript(String.raw`printf 'a\xf0\x9f'`));

        let text = "";
        let offset = 0;
        for (let more = true; more;) {
          const page = await plainPage(hub, run, { after: offset, maxBytes: max });
          expect(page.offset).toBeGreaterThan(offset);
          text += page.chunk;
          ({ offset, more } = page);
        }
        expect(text).toBe(`a${REPLACEMENT}`);
        expect(offset).toBe(3);
      },
    );

    test("a byte order mark, a NUL, a carriage return and an escape sequence are returned unchanged", async () => {
      const hub = shared();
      const run = await hub.ended(await hub.runScript(String.raw`printf '\xef\xbb\xbfa\0b\r\n\033[31mred'`));

      expect((await hub.get(logsOf(run))).json.chunk).toBe("\ufeffa\0b\r\n\u001b[31mred");
      expect((await hub.get(`${logsOf(run)}?max_bytes=1`)).json).toMatchObject({
        chunk: "\ufeff",
        offset: 3,
      });
    });

    test("a prompt without a newline is readable while the run waits for input", async () => {
      const hub = shared();
      const run = await hub.runScript("printf 'Name? '; sleep 600");

      await until(async () => (await hub.get(logsOf(run))).json.chunk === "Name? " || undefined);
      expect((await hub.run(run)).status).toBe("running");
    });

    test("a log page starts at byte 0 and has 4,096 bytes by default, and 1 MiB at most", async () => {
      const hub = shared();
      const run = await hub.ended(await hub.runScript(`printf '%0${3 * MIB}d' 0`));

      expect((await hub.get(logsOf(run))).json).toMatchObject({ offset: 4096, size: 3 * MIB, more: true });
      for (const max of [MIB, MIB + 1, 2 * MIB, Number.MAX_SAFE_INTEGER]) {
        const { json } = await hub.get(`${logsOf(run)}?after=5&max_bytes=${max}`);
        expect(json.offset).toBe(MIB + 5);
        expect(json.chunk).toHaveLength(MIB);
      }
    });

    test("an offset at the end of the log answers an empty page, one beyond the end 416 with the size", async () => {
      const hub = shared();
      const run = await hub.ended(await hub.runScript("echo hello"));

      const atEnd = await hub.get(`${logsOf(run)}?after=6`);
      expect(atEnd.json).toMatchObject({ offset: 6, size: 6, chunk: "", more: false });
      for (const after of [7, 4096, Number.MAX_SAFE_INTEGER]) {
        const beyond = await hub.get(`${logsOf(run)}?after=${after}`);
        expect(beyond.status).toBe(416);
        expect(beyond.json).toMatchObject({ code: "offset_beyond_end", size: 6 });
      }
    });

    test("a text/plain page has the fields of the JSON page in its headers, and HEAD returns only these", async () => {
      const hub = shared();
      const run = await hub.ended(await hub.runScript("printf 'héllo'"));
      const path = `${logsOf(run)}?after=1&max_bytes=3`;

      const page = await hub.get(path, RAW);
      expect(page.status).toBe(200);
      expect(page.headers.get("content-type")).toBe("text/plain; charset=utf-8");
      expect(new TextDecoder().decode(page.bytes)).toBe("él");
      for (const answer of [page, await hub.ask("HEAD", path, RAW)]) {
        expect(answer.headers.get("hub-log-offset")).toBe("4");
        expect(answer.headers.get("hub-log-size")).toBe("6");
        expect(answer.headers.get("hub-log-more")).toBe("true");
      }
      expect((await hub.ask("HEAD", path, RAW)).bytes).toHaveLength(0);
      expect((await hub.get(`${logsOf(run)}?after=4`, RAW)).headers.get("hub-log-more")).toBe("false");
    });

    test("a log page is raw only for a client that wants text more than JSON, and says what it depends on", async () => {
      const hub = shared();
      const run = await hub.ended(await hub.runScript("printf x"));
      const forms = [
        ["text/plain", "text/plain"],
        ["text/plain;q=0.9, application/json;q=0.8", "text/plain"],
        ["text/*", "text/plain"],
        ["text/plain, */*;q=0.1", "text/plain"],
        ["text/plain;q=0", "application/json"],
        ["text/plain;q=0, */*", "application/json"],
        ["text/plain, application/json, */*", "application/json"],
        ["application/json, text/plain, */*", "application/json"],
        ["text/plain, */*", "application/json"],
        ["*/*", "application/json"],
        ["text/html,application/xml;q=0.9,*/*;q=0.8", "application/json"],
        ["text/plain;q=nonsense", "application/json"],
      ] as const;
      for (const [accept, type] of forms) {
        const { status, headers } = await hub.get(logsOf(run), { headers: { accept } });
        expect({ status, type: headers.get("content-type")!.split(";")[0] }, accept).toEqual({
          status: 200,
          type,
        });
        expect(headers.get("vary"), accept).toMatch(/\baccept\b/);
      }
    });

    test("a log of gigabytes is readable at any offset", async () => {
      await using hub = await startHub({ deploy, env: { HUB_MAX_LOG_BYTES: "0" } });
      const run = await hub.ended(await hub.runScript("echo start"));
      const size = 5_000_000_000;
      await truncate(run.log_path, size);
      const places = [1_900_000_000, 2 ** 31 - 2, 2 ** 32 - 2, size - 13];
      await using file = await open(run.log_path, "r+");
      for (const [i, place] of places.entries()) await file.write(`é한😀${i}end`, place);

      for (const [i, place] of places.entries()) {
        const page = (await hub.get(`${logsOf(run)}?after=${place}&max_bytes=13`)).json;
        expect(page).toMatchObject({ chunk: `é한😀${i}end`, offset: place + 13, size });
        const raw = await hub.get(`${logsOf(run)}?after=${place}&max_bytes=65536`, RAW);
        expect(raw.bytes).toHaveLength(Math.min(65_536, size - place));
      }
    });

    test("the API document's polling loop reads the whole log of a live run", async () => {
      const hub = shared();
      const run = await hub.runScript('for i in $(seq 30); do echo "línea $i"; sleep 0.01; done');

      let text = "";
      let offset = 0;
      for (;;) {
        const response = await fetch(`${hub.url}${logsOf(run)}?after=${offset}&max_bytes=65536`, {
          headers: { authorization: `Bearer ${ALL.key}` },
        });
        const isOver = ["completed", "failed", "killed"].includes((await hub.run(run)).status);
        const chunk = (await response.json()) as { chunk: string; offset: number; more: boolean };
        text += chunk.chunk;
        offset = chunk.offset;
        if (!chunk.more && isOver && offset === statSync(run.log_path).size) break;
      }
      expect(text).toBe(Array.from({ length: 30 }, (_, i) => `línea ${i + 1}\n`).join(""));
    });
  });

  describe("a log that was tampered with on the host", () => {
    const shared = sharedHub({ deploy });

    test("a removed log answers 410, whatever replaced it", async () => {
      const hub = shared();
      const run = await hub.ended(await hub.runScript("echo hello"));
      const secret = join(hub.dir, "secret");
      await writeFile(secret, "the secret");

      for (const replace of [
        () => Promise.resolve(),
        () => symlink(secret, run.log_path),
        () => mkdir(run.log_path),
        () => Promise.resolve(execFileSync("mkfifo", [run.log_path])),
      ]) {
        await rm(run.log_path, { recursive: true, force: true });
        await replace();
        for (const how of [{}, RAW]) {
          const answer = await hub.get(logsOf(run), how);
          expect(answer.status).toBe(410);
          expect(answer.json.code).toBe("log_gone");
          expect(JSON.stringify(answer.json)).not.toContain("secret");
        }
      }
      expect((await hub.run(run)).status).toBe("completed");
    });

    test("a log that was renamed answers 410, and the file in its place is not shown", async () => {
      const hub = shared();
      const run = await hub.ended(await hub.runScript("echo hello"));
      await rename(run.log_path, `${run.log_path}.1`);
      await writeFile(run.log_path, "the secret");
      for (const how of [{}, RAW]) {
        const answer = await hub.get(logsOf(run), how);
        expect(answer.status).toBe(410);
        expect(answer.json.code).toBe("log_gone");
      }
      await rename(`${run.log_path}.1`, run.log_path);
      expect(await hub.log(run)).toBe("hello\n");
    });

    test("a truncated log answers 416 with its size, and is readable again from its start", async () => {
      await using hub = await startHub({ deploy });
      const run = await hub.runScript(`echo 'a long first line'; ${GO}; echo second`);
      const { offset } = await until(async () => {
        const { json } = await hub.get(logsOf(run));
        return json.size > 0 ? (json as { offset: number }) : undefined;
      });

      await truncate(run.log_path, 0);
      const beyond = await hub.get(`${logsOf(run)}?after=${offset}`);
      expect(beyond.status).toBe(416);
      expect(beyond.json.size).toBe(0);

      await writeFile(join(hub.root, "go"), "");
      await hub.ended(run);
      // Opened for appending: what follows begins at the new start, with no hole before it.
      expect(await hub.log(run)).toBe("second\n");
    });

    test("a log removed while a reader waits for it answers 410", async () => {
      const hub = shared();
      const run = await hub.runScript("sleep 600");
      const answer = hub.get(`${logsOf(run)}?wait=30`);
      await until(() => watchers(run.log_path)[0]);

      await rm(run.log_path);
      expect((await answer).status).toBe(410);
    });
  });
}

/** The path of the log pages of this run. */
export function logsOf({ source, run_id }: Pick<RunRecord, "source" | "run_id">): string {
  return `/api/v1/${source}s/runs/${run_id}/logs`;
}

interface Page {
  chunk: string;
  offset: number;
  size: number;
  more: boolean;
}

/** A page without the check against the document, where a test reads thousands. */
async function plainPage(
  hub: Hub,
  run: RunRecord,
  { after, maxBytes }: { after: number; maxBytes: number },
): Promise<Page> {
  const response = await fetch(`${hub.url}${logsOf(run)}?after=${after}&max_bytes=${maxBytes}`, {
    headers: { authorization: `Bearer ${ALL.key}` },
  });
  return (await response.json()) as Page;
}

/** Page by page, from every start: what is read is the file, and no character is split. */
async function expectWholePages(hub: Hub, sizes: Iterable<number>): Promise<void> {
  const text = "é한😀".repeat(3);
  const run = await hub.ended(await hub.runScript(`printf '${text}'`));
  const file = new TextEncoder().encode(text);
  const starts = [...file.keys(), file.length];

  for (const maxBytes of sizes) {
    const pages = await Promise.all(starts.map((after) => plainPage(hub, run, { after, maxBytes })));
    for (const start of starts) {
      let read = "";
      let after = start;
      do {
        const page = pages[after]!;
        expect(page.offset > after || after === file.length, `after ${after} by ${maxBytes}`).toBe(true);
        expect(page.offset - after).toBeLessThanOrEqual(Math.max(maxBytes, 4));
        expect(page.more).toBe(page.offset < file.length);
        read += page.chunk;
        after = page.offset;
      } while (after < file.length);
      expect(read, `from ${start} by ${maxBytes}`).toBe(new TextDecoder().decode(file.subarray(start)));
      // A start between two characters is no reason for a replacement.
      const isInside = start < file.length && (file[start]! & 0xc0) === 0x80;
      expect(read.includes(REPLACEMENT)).toBe(isInside);
    }
  }
}

/** Thousands of pages. The agent makes the pages, so one deployment is enough. */
export function everyPageSizeContract(deploy: Deploy): void {
  test("pages of every size from every start add up to the file and split no character", async () => {
    await using hub = await startHub({ deploy });
    await expectWholePages(
      hub,
      Array.from({ length: 64 }, (_, i) => i + 1),
    );
  });
}
