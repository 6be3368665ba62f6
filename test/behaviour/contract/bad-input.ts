import { Agent, request } from "node:http";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { ALL, type Deploy, type Hub, startHub } from "../../support/hub.ts";
import {
  type Bad,
  expectRefused,
  kill,
  launch,
  POSTS,
  PROTOTYPE_NAMES,
  RUN,
  SURFACES,
  TRAVERSALS,
  WRONG_TYPES,
} from "./bad-requests.ts";
import { badQueries } from "./bad-queries.ts";

/** What is wrong with a request is said with its name and reason, and nothing else happens. */
export function badInputContract(deploy: Deploy): void {
  describe("bad input", () => {
    let hub: Hub;
    beforeAll(async () => {
      hub = await startHub({ deploy });
    });
    afterAll(() => hub[Symbol.asyncDispose]());

    test("a launch with a missing or invalid recipe_id is refused", async () => {
      const ids = [
        "",
        " ",
        "a".repeat(101),
        "a\0",
        "a\nb",
        "\r\nx: y",
        "日本語",
        "/etc/passwd",
        "a/b",
        "-1",
        "x y",
      ];
      const values = [undefined, ...ids, ...TRAVERSALS, ...PROTOTYPE_NAMES, ...WRONG_TYPES, "missing-recipe"];
      await expectRefused(
        hub,
        values.map((recipe_id) => launch("pipelines", { recipe_id }, "recipe_id")),
      );
    });

    test("a launch with a missing or invalid path is refused", async () => {
      const outside = ["/etc/passwd", "/etc/profile.sh", "/", `${hub.root}-evil/x.sh`, `${hub.root}/../x.sh`];
      const within = [
        hub.root,
        `${hub.root}/`,
        `${hub.root}/x.txt`,
        `${hub.root}/no.sh`,
        `${hub.root}/a\nb.sh`,
      ];
      const forms = [
        "",
        " ",
        "x.sh",
        "./x.sh",
        "a\0.sh",
        `${hub.root}/a\0.sh`,
        `/${"a".repeat(4_095)}.sh`,
        "日.sh",
      ];
      const encoded = [
        `${hub.root}/%2e%2e/x.sh`,
        `${hub.root}%2fx.sh`,
        `${hub.root}/..\\x.sh`,
        "file:///x.sh",
      ];
      const values = [undefined, ...outside, ...within, ...forms, ...encoded];
      const all = [...values, ...TRAVERSALS, ...PROTOTYPE_NAMES, ...WRONG_TYPES];
      await expectRefused(
        hub,
        all.map((path) => launch("scripts", { path }, "path")),
      );
    });

    test("args that are not a string, are too long or cannot be split are refused", async () => {
      const path = await hub.script("args.sh", "true");
      const specs = { pipelines: { recipe_id: "hello" }, scripts: { path } };
      const texts = ["a\0b", "'open", '"open', "ends in \\", "x".repeat(32_769)];
      await expectRefused(
        hub,
        SURFACES.flatMap((surface) =>
          [...texts, ...WRONG_TYPES].map((args) => launch(surface, { ...specs[surface], args }, "body.args")),
        ),
      );
    });

    test("a terminal field that is neither true nor false is refused", async () => {
      const specs = { pipelines: { recipe_id: "hello" }, scripts: { path: `${hub.root}/x.sh` } };
      const values = ["", "true", "yes", 0, 1, null, [], {}];
      await expectRefused(
        hub,
        SURFACES.flatMap((surface) =>
          values.map((terminal) => launch(surface, { ...specs[surface], terminal }, "body.terminal")),
        ),
      );
    });

    test("unknown body fields are refused by name", async () => {
      const bodies = {
        [`/api/v1/pipelines/runs`]: `"recipe_id": "hello"`,
        [`/api/v1/scripts/runs`]: `"path": "${await hub.script("known.sh", "true")}"`,
        [`/api/v1/pipelines/runs/${RUN}/kill`]: `"signal": "SIGTERM"`,
        [`/api/v1/scripts/runs/${RUN}/kill`]: `"signal": "SIGTERM"`,
      };
      await expectRefused(
        hub,
        Object.entries(bodies).flatMap(([path, known]) =>
          [...PROTOTYPE_NAMES, "extra", "Args"].map((name): Bad => ({
            names: `body.${name}`,
            method: "POST",
            path,
            how: { body: `{${known}, "${name}": {}}` },
          })),
        ),
      );
    });

    test("a kill with an invalid signal or grace_seconds is refused", async () => {
      const signals = ["", "SIGHUP", "sigterm", "TERM", "SIGTERM\0", "SIGTERM\n", "9".repeat(5_000)];
      const seconds = ["", "10", -1, 1.5, 3_601, 1e308, null, true, [], {}, "9".repeat(30)];
      await expectRefused(
        hub,
        SURFACES.flatMap((surface) => [
          ...[...signals, ...PROTOTYPE_NAMES, ...WRONG_TYPES].map((signal) =>
            kill(surface, { signal }, "body.signal"),
          ),
          ...seconds.map((grace_seconds) => kill(surface, { grace_seconds }, "body.grace_seconds")),
          kill(surface, `{"grace_seconds": 1e400}`, "body.grace_seconds"),
          kill(surface, `{"grace_seconds": -0.5}`, "body.grace_seconds"),
        ]),
      );
    });

    test("a body that is not a JSON object is refused", async () => {
      const bodies = [
        "",
        "null",
        "5",
        '"x"',
        "[]",
        '[{"recipe_id":"hello"}]',
        "true",
        "hello",
        "{",
        '{"recipe_id": "hel',
      ];
      const texts = [
        ...bodies,
        '{"recipe_id": "hello",}',
        "{'recipe_id': 'hello'}",
        '{"recipe_id": "a\0b"}',
        "NaN",
      ];
      await expectRefused(
        hub,
        POSTS.flatMap((path) =>
          texts
            .map((body): Bad => ({ names: "body", method: "POST", path, how: { body } }))
            .filter(({ how }) => how?.body !== "" || !path.endsWith("/kill")),
        ),
      );
      const deep = `${'{"a":'.repeat(10_000)}1${"}".repeat(10_000)}`;
      await expectRefused(
        hub,
        POSTS.map((path): Bad => ({ names: "body.a", method: "POST", path, how: { body: deep } })),
      );
    });

    test("a body over 64 KiB is refused, with any content", async () => {
      const body = JSON.stringify({ recipe_id: "hello", args: "x".repeat(65_536) });
      const answers = await Promise.all(POSTS.map((path) => hub.post(path, body)));
      for (const answer of answers)
        expect(answer.json).toMatchObject({ status: 413, code: "body_too_large" });
    });

    test.for([
      ["with a good key", ALL.key, 413],
      ["with an unknown key", "sk_unknown", 401],
    ] as const)(
      "a body over 64 KiB %s is answered, and its connection serves the next request",
      async ([, key, status]) => {
        const agent = new Agent({ keepAlive: true, maxSockets: 1 });
        const exchange = (text: string) =>
          new Promise<{ status: number; port: number }>((resolve, reject) => {
            const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
            const outgoing = request(hub.url + POSTS[0], { agent, method: "POST", headers });
            outgoing.on("error", reject);
            outgoing.on("response", (incoming) => {
              const port = incoming.socket.localPort!;
              incoming.resume().on("end", () => resolve({ status: incoming.statusCode!, port }));
            });
            // With a Content-Length, and not in chunks.
            outgoing.end(text);
          });
        const { port } = await exchange("{");
        for (const bytes of [65_537, 200_000, 1_000_000]) {
          const body = JSON.stringify({ recipe_id: "hello" }).padEnd(bytes, " ");
          expect(await exchange(body)).toEqual({ status, port });
          // When the server closes the connection it does that a moment after its answer.
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
        expect((await exchange("{")).port).toBe(port);
        agent.destroy();
      },
    );

    test("a Content-Type with any parameters is accepted as JSON if its charset is UTF-8 by any of its names", async () => {
      const forms = [
        "",
        ";",
        "; charset=utf8",
        ';Charset="UTF-8"',
        "; version=1; charset=utf-8;",
        ' ; a="b;c"',
      ];
      for (const form of forms) {
        const headers = { "content-type": `application/json${form}` };
        const { json } = await hub.post("/api/v1/pipelines/runs", { recipe_id: "none" }, { headers });
        expect(json, form).toMatchObject({ status: 404, code: "recipe_not_found" });
      }
    });

    test("a body of another content type or encoding is refused", async () => {
      const types = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
      ];
      const odd = [
        "",
        "json",
        "application/json; charset=utf-16",
        "application/json, text/plain",
        "application/json\tx",
      ];
      const body = '{"recipe_id": "hello"}';
      await expectRefused(
        hub,
        POSTS.flatMap((path) => [
          ...[...types, ...odd].map((type): Bad => ({
            names: "header.content-type",
            method: "POST",
            path,
            how: { body, headers: { "content-type": type } },
          })),
          {
            names: "header.content-encoding",
            method: "POST",
            path,
            how: { body, headers: { "content-encoding": "gzip" } },
          },
        ]),
      );
    });

    test("an Idempotency-Key that is empty, over 255 characters or not ASCII is refused", async () => {
      const body = { recipe_id: "hello" };
      await expectRefused(
        hub,
        ["", "x".repeat(256), "x".repeat(5_000), "\xe9"].map((key): Bad => ({
          ...launch("pipelines", body, "header.idempotency-key"),
          how: { body, headers: { "idempotency-key": key } },
        })),
      );
    });

    badQueries(() => hub, deploy);
  });
}
