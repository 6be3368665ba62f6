import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { ALL, type Deploy, type Hub, OTHER, sharedHub, startHub } from "../../support/hub.ts";
import { rawRequest } from "../../support/raw-socket.ts";

const PIPELINES = "/api/v1/pipelines/runs";
const SCRIPTS = "/api/v1/scripts/runs";

/** Retries of a launch with one Idempotency-Key, as every deployment answers them. */
export function idempotencyContract(deploy: Deploy): void {
  describe("idempotency", () => {
    const shared = sharedHub({ deploy });

    test("a hundred concurrent launches with one Idempotency-Key start one run with one process", async () => {
      await using hub = await startHub({ deploy });
      const ledger = join(hub.dir, "ledger");
      const path = await hub.script("job.sh", `echo "$HUB_RUN_ID" >>"$1"; exec sleep 60`);

      const answers = await Promise.all(
        Array.from({ length: 100 }, () => launch(hub, { path, args: ledger }, "nightly")),
      );

      expect(answers.map((answer) => answer.status)).toEqual(answers.map(() => 201));
      const [runId] = answers.map(({ json }) => json.run_id);
      expect(answers.map(({ json }) => json.run_id)).toEqual(answers.map(() => runId));
      const replays = answers.filter(({ headers }) => headers.get("idempotent-replayed") === "true");
      expect(replays, "exactly one was the first").toHaveLength(99);
      expect((await hub.get(SCRIPTS)).json.runs).toHaveLength(1);
      await hub.kill(answers[0]!.json);
      await hub.ended(answers[0]!.json);
      expect(await readFile(ledger, "utf8")).toBe(`${runId}\n`);
    });

    test("a replay returns the current record of the run, with the headers of a launch", async () => {
      const hub = shared();
      const key = randomUUID();
      const path = await hub.script("job.sh", "exit 9");
      const first = await launch(hub, { path }, key);
      expect(first.headers.get("idempotent-replayed")).toBeNull();
      const ended = await hub.ended(first.json);

      const again = await launch(hub, { path }, key);

      expect(again.status).toBe(201);
      expect(again.json).toEqual(ended);
      expect(again.json).toMatchObject({ status: "failed", exit_code: 9 });
      expect(again.headers.get("idempotent-replayed")).toBe("true");
      expect(again.headers.get("hub-stale")).toBeNull();
      expect(again.headers.get("location")).toBe(`${SCRIPTS}/${first.json.run_id}`);
    });

    test("two bodies with the same JSON content are the same request", async () => {
      const hub = shared();
      const key = randomUUID();
      const first = await launch(hub, { recipe_id: "hello", args: "" }, key);
      for (const body of [
        '{"args":"","recipe_id":"hello"}',
        '{ "recipe_id": "hell\\u006f" }',
        { recipe_id: "hello" },
      ]) {
        const { status, json, headers } = await hub.post(PIPELINES, body, {
          headers: { "idempotency-key": key },
        });
        expect(status).toBe(201);
        expect(json.run_id).toBe(first.json.run_id);
        expect(headers.get("idempotent-replayed")).toBe("true");
      }
    });

    test("an Idempotency-Key with another body answers 422, starts nothing and keeps its first run", async () => {
      await using hub = await startHub({ deploy });
      const first = await launch(hub, { recipe_id: "hello", args: "a" }, "k");

      const other = await launch(hub, { recipe_id: "hello", args: "b" }, "k");
      expect(other.status).toBe(422);
      expect(other.json).toMatchObject({
        code: "idempotency_key_reused",
        detail: expect.stringContaining(first.json.run_id),
      });
      expect((await hub.get(PIPELINES)).json.runs).toHaveLength(1);
      expect((await launch(hub, { recipe_id: "hello", args: "a" }, "k")).json.run_id).toBe(first.json.run_id);
    });

    test("another API key, another surface, another Idempotency-Key or none start separate runs", async () => {
      const hub = shared();
      const key = randomUUID();
      const path = await hub.script("job.sh", "true");
      const answers = [
        await launch(hub, { recipe_id: "hello" }, key),
        await launch(hub, { recipe_id: "hello" }, key, OTHER.key),
        await launch(hub, { path }, key),
        await launch(hub, { recipe_id: "hello" }, key.toUpperCase()),
        await hub.post(PIPELINES, { recipe_id: "hello" }),
        await hub.post(PIPELINES, { recipe_id: "hello" }),
      ];
      expect(answers.map((answer) => answer.status)).toEqual(answers.map(() => 201));
      expect(new Set(answers.map(({ json }) => json.run_id)).size).toBe(answers.length);
      for (const { headers } of answers) expect(headers.get("idempotent-replayed")).toBeNull();
    });

    test("a refused launch does not consume its Idempotency-Key: another body starts with it", async () => {
      const hub = shared();
      const key = randomUUID();
      for (const body of [
        "{",
        { recipe_id: 7 },
        { recipe_id: "nope" },
        { recipe_id: "hello", args: "'" },
        { recipe_id: "hello", typo: true },
      ]) {
        const { status } = await hub.post(PIPELINES, body, { headers: { "idempotency-key": key } });
        expect(status).toBeGreaterThanOrEqual(400);
        expect(status).toBeLessThan(500);
      }
      const launched = await launch(hub, { recipe_id: "hello" }, key);
      expect(launched.status).toBe(201);
      expect(launched.headers.get("idempotent-replayed")).toBeNull();
    });

    test("concurrent launches with one Idempotency-Key that cannot start all fail and release the key", async () => {
      const hub = shared();
      const key = randomUUID();
      const path = await hub.script("job.sh", "#!/no/such/interpreter\n");
      const refused = await Promise.all(Array.from({ length: 10 }, () => launch(hub, { path }, key)));
      expect(refused.map(({ json }) => json.code)).toEqual(refused.map(() => "launch_failed"));

      await hub.script("job.sh", "true");
      const launched = await launch(hub, { path }, key);
      expect(launched.status).toBe(201);
      expect(launched.headers.get("idempotent-replayed")).toBeNull();
    });

    test("an Idempotency-Key is 1 to 255 printable ASCII characters, sent once", async () => {
      await using hub = await startHub({ deploy });
      const runIds = new Set<string>();
      const keys = ["k".repeat(255), '"quoted", x; y=z', "__proto__", "../..", "%00"];
      for (const key of keys) {
        const first = await launch(hub, { recipe_id: "hello" }, key);
        expect(first.status, `the key ${key}`).toBe(201);
        expect(first.headers.get("idempotent-replayed")).toBeNull();
        expect((await launch(hub, { recipe_id: "hello" }, key)).json.run_id).toBe(first.json.run_id);
        runIds.add(first.json.run_id);
      }
      expect(runIds.size).toBe(keys.length);
      for (const key of ["", "   ", "k".repeat(256)]) {
        const { status, json } = await launch(hub, { recipe_id: "hello" }, key);
        expect(status).toBe(400);
        expect(json).toMatchObject({
          code: "malformed_request",
          errors: [{ path: "header.idempotency-key" }],
        });
      }
      // A platform may hand two headers over as one, joined: that must not be another key than one of them.
      for (const values of [["a", "a"], ["a", "a", "a"], ['"a"', '"a"'], ["a, a"]]) {
        expect(JSON.parse((await launchRaw(hub, values)).body), values.join("|")).toMatchObject({
          status: 400,
          code: "malformed_request",
          detail: expect.stringContaining("header.idempotency-key"),
        });
      }
      expect((await hub.get(PIPELINES)).json.runs).toHaveLength(keys.length);
    });

    test("an Idempotency-Key beyond ASCII is refused, as two kinds of edge would read it as two keys", async () => {
      await using hub = await startHub({ deploy });
      // UTF-8, latin-1, bytes that are neither, half a character, a tab, and the replacement character itself.
      for (const key of [utf8("nightly-é"), "nightly-\xe9", "\xff\xfe", "a\x80", "a\tb", utf8("\ufffd")]) {
        const { status, json } = await launch(hub, { recipe_id: "hello" }, key);
        expect({ status, code: json.code }, JSON.stringify(key)).toEqual({
          status: 400,
          code: "malformed_request",
        });
        expect(json.errors).toEqual([
          { path: "header.idempotency-key", message: "must be printable ASCII characters" },
        ]);
      }
      expect((await hub.get(PIPELINES)).json.runs).toEqual([]);
    });

    test("an Idempotency-Key still returns its run after a restart, also with an empty KV", async () => {
      await using hub = await startHub({ deploy, env: { HUB_KV: "memory:" } });
      const first = await launch(hub, { recipe_id: "hello" }, "k");
      await hub.restart();
      const again = await launch(hub, { recipe_id: "hello" }, "k");
      expect(again.json.run_id).toBe(first.json.run_id);
      expect(again.headers.get("idempotent-replayed")).toBe("true");
      expect((await launch(hub, { recipe_id: "hello", args: "b" }, "k")).json.code).toBe(
        "idempotency_key_reused",
      );
    });
  });
}

function launch(
  hub: Hub,
  body: { path: string; args?: string } | { recipe_id: string; args?: string },
  idempotencyKey: string,
  key?: string,
) {
  return hub.post("path" in body ? SCRIPTS : PIPELINES, body, {
    headers: { "idempotency-key": idempotencyKey },
    ...(key !== undefined && { key }),
  });
}

/** Launches with an Idempotency-Key header for each of the values. */
function launchRaw(hub: Hub, values: string[]) {
  const body = '{"recipe_id":"hello"}';
  const keys = values.map((value) => `Idempotency-Key: ${value}\r\n`).join("");
  return rawRequest(
    hub.url,
    `POST ${PIPELINES} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${ALL.key}\r\n${keys}` +
      `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
}

/** The text as a client writes it into a header: its UTF-8 bytes, each as one character of fetch's byte string. */
function utf8(text: string): string {
  return Buffer.from(text).toString("latin1");
}
