import { readdir } from "node:fs/promises";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { type Answer, type Ask, type Deploy, type Hub, startHub } from "../../support/hub.ts";

const SURFACES = ["pipelines", "scripts"] as const;
const RUN = "run_a1b2c3d4e5f6";
const PROTOTYPE_NAMES = ["__proto__", "constructor", "toString", "hasOwnProperty"];
const WRONG_TYPES: unknown[] = [null, 5, -1, 1.5, 1e308, true, [], ["x"], {}, { toString: "x" }];
const TRAVERSALS = [
  "..",
  "../x",
  "%2e%2e",
  "%2e%2e%2fx",
  "a/../../b",
  "..\\x",
  "\\..\\x",
  "．．／x",
  "~",
  ".",
];

/** One request that must be refused, and the name of what is wrong with it. */
interface Bad {
  names: string;
  method: "GET" | "POST";
  path: string;
  how?: Ask;
}

/** What is wrong with a request is said with its name and reason, and nothing else happens. */
export function badInputContract(deploy: Deploy): void {
  describe("bad input", () => {
    let hub: Hub;
    beforeAll(async () => {
      hub = await startHub({ deploy });
    });
    afterAll(() => hub[Symbol.asyncDispose]());

    async function expectRefused(bads: Iterable<Bad>): Promise<void> {
      const before = await footprint(hub);
      for (const bad of bads) expectRefusal(await hub.ask(bad.method, bad.path, bad.how), bad);
      expect(await footprint(hub), "nothing was started or written").toEqual(before);
    }

    test("a launch without a proper recipe_id is refused", async () => {
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
      await expectRefused(values.map((recipe_id) => launch("pipelines", { recipe_id }, "recipe_id")));
    });

    test("a launch without a proper path is refused", async () => {
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
      await expectRefused(all.map((path) => launch("scripts", { path }, "path")));
    });

    test("args that are no string, too long, or cannot be split are refused", async () => {
      const path = await hub.script("args.sh", "true");
      const specs = { pipelines: { recipe_id: "hello" }, scripts: { path } };
      const texts = ["a\0b", "'open", '"open', "ends in \\", "x".repeat(32_769)];
      await expectRefused(
        SURFACES.flatMap((surface) =>
          [...texts, ...WRONG_TYPES].map((args) => launch(surface, { ...specs[surface], args }, "body.args")),
        ),
      );
    });

    test("terminal that is neither true nor false is refused", async () => {
      const specs = { pipelines: { recipe_id: "hello" }, scripts: { path: `${hub.root}/x.sh` } };
      const values = ["", "true", "yes", 0, 1, null, [], {}];
      await expectRefused(
        SURFACES.flatMap((surface) =>
          values.map((terminal) => launch(surface, { ...specs[surface], terminal }, "body.terminal")),
        ),
      );
    });

    test("fields that nobody knows are refused by name", async () => {
      const bodies = {
        [`/api/v1/pipelines/runs`]: `"recipe_id": "hello"`,
        [`/api/v1/scripts/runs`]: `"path": "${await hub.script("known.sh", "true")}"`,
        [`/api/v1/pipelines/runs/${RUN}/kill`]: `"signal": "SIGTERM"`,
        [`/api/v1/scripts/runs/${RUN}/kill`]: `"signal": "SIGTERM"`,
      };
      await expectRefused(
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

    test("a kill with an improper signal or grace_seconds is refused", async () => {
      const signals = ["", "SIGHUP", "sigterm", "TERM", "SIGTERM\0", "SIGTERM\n", "9".repeat(5_000)];
      const seconds = ["", "10", -1, 1.5, 3_601, 1e308, null, true, [], {}, "9".repeat(30)];
      await expectRefused(
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

    test("a body that is no JSON object is refused", async () => {
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
        POSTS.flatMap((path) =>
          texts
            .map((body): Bad => ({ names: "body", method: "POST", path, how: { body } }))
            .filter(({ how }) => how?.body !== "" || !path.endsWith("/kill")),
        ),
      );
      const deep = `${'{"a":'.repeat(10_000)}1${"}".repeat(10_000)}`;
      await expectRefused(
        POSTS.map((path): Bad => ({ names: "body.a", method: "POST", path, how: { body: deep } })),
      );
    });

    test("a body over 64 KiB is refused, whatever stands in it", async () => {
      const body = JSON.stringify({ recipe_id: "hello", args: "x".repeat(65_536) });
      const answers = await Promise.all(POSTS.map((path) => hub.post(path, body)));
      for (const answer of answers)
        expect(answer.json).toMatchObject({ status: 413, code: "body_too_large" });
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

    test("an Idempotency-Key that is empty or over 255 bytes is refused", async () => {
      const body = { recipe_id: "hello" };
      await expectRefused(
        ["", "x".repeat(256), "x".repeat(5_000)].map((key): Bad => ({
          ...launch("pipelines", body, "header.idempotency-key"),
          how: { body, headers: { "idempotency-key": key } },
        })),
      );
    });

    test("an Idempotency-Key of 255 bytes is taken, also when they are not ASCII", async () => {
      const body = { recipe_id: "hello" };
      // fetch wants one character a byte: this is what a client sends for 127 times "é" in UTF-8.
      const key = Buffer.from("é".repeat(127)).toString("latin1");
      const answer = await hub.post("/api/v1/pipelines/runs", body, { headers: { "idempotency-key": key } });
      expect(answer.status).toBe(201);
      await hub.ended(answer.json);
    });

    test("a run_id of another form is refused, whatever is asked of it", async () => {
      const forms = [
        "x",
        "run_",
        RUN.toUpperCase(),
        `${RUN}0`,
        "run_a1b2c3d4e5fg",
        "-1",
        "0",
        "1e9",
        "*",
        RUN.slice(4),
      ];
      const encoded = [
        "%00",
        `${RUN}%00`,
        `${RUN}%0a`,
        `%0d%0aset-cookie:%20a=b`,
        "..%2f..%2fetc",
        "%2e%2e%2fx",
        "..%5cx",
        "%252e%252e",
        "%zz",
        "%ff",
      ];
      const ids = [
        ...forms,
        ...encoded,
        ...PROTOTYPE_NAMES,
        "é",
        "日本",
        "x".repeat(300),
        `${RUN}%20`,
        `%20${RUN}`,
      ];
      await expectRefused(
        SURFACES.flatMap((surface) =>
          ids.flatMap((id): Bad[] => [
            { names: "path.run_id", method: "GET", path: `/api/v1/${surface}/runs/${id}` },
            { names: "path.run_id", method: "GET", path: `/api/v1/${surface}/runs/${id}/logs` },
            { names: "path.run_id", method: "POST", path: `/api/v1/${surface}/runs/${id}/kill` },
          ]),
        ),
      );
    });

    test("a run that is not there is a 404, whatever is asked of it", async () => {
      for (const surface of SURFACES) {
        const url = `/api/v1/${surface}/runs/${RUN}`;
        const answers = [await hub.get(url), await hub.get(`${url}/logs`), await hub.post(`${url}/kill`)];
        for (const { json } of answers) expect(json).toMatchObject({ status: 404, code: "run_not_found" });
      }
    });

    const NUMBERS = [
      "-1",
      "1.5",
      "1e3",
      "0x10",
      "+1",
      "%201",
      "1%20",
      "NaN",
      "Infinity",
      "９",
      "9".repeat(30),
      "%00",
      "1%00",
      "%0a",
      "1,2",
      "x",
      "true",
      "null",
      "[]",
      ...PROTOTYPE_NAMES,
    ];

    test("a query parameter of a list with an improper value is refused", async () => {
      const values = {
        status: [
          "RUNNING",
          "run",
          "running,failed",
          "running%00",
          "running%0a",
          "%20running",
          "5",
          "-1",
          "é",
          "x".repeat(5_000),
          ...PROTOTYPE_NAMES,
        ],
        limit: ["0", "501", ...NUMBERS],
        cursor: ["9".repeat(16), "..", "%2e%2e", "'%20or%201=1", ...NUMBERS],
      };
      await expectRefused(SURFACES.flatMap((surface) => queries(`/api/v1/${surface}/runs`, values)));
    });

    test("a query parameter of a log with an improper value is refused", async () => {
      const values = {
        after: ["", "9007199254740993", ...NUMBERS],
        max_bytes: ["", "0", ...NUMBERS],
        wait: ["", "31", ...NUMBERS],
      };
      await expectRefused(
        SURFACES.flatMap((surface) => queries(`/api/v1/${surface}/runs/${RUN}/logs`, values)),
      );
    });

    test("a path in the query that is no open folder or script is refused", async () => {
      const forms = [
        "x.sh",
        "%00",
        `${hub.root}/a%00.sh`,
        "/etc",
        "/etc/passwd",
        "/",
        `${hub.root}-evil`,
        `${hub.root}/..`,
        `${hub.root}/%2e%2e/`,
        `${hub.root}/no`,
        `/${"a".repeat(4_096)}`,
        "%zz",
        "%ff",
        "é",
        "%0a",
        "-1",
        "5",
        "[]",
      ];
      const values = [...forms, ...TRAVERSALS.map(encodeURIComponent), ...PROTOTYPE_NAMES];
      await expectRefused(queries("/api/v1/scripts", { path: values }));
      await expectRefused(queries("/api/v1/scripts/content", { path: ["", hub.root, ...values] }));
      await expectRefused([{ names: "query.path", method: "GET", path: "/api/v1/scripts/content" }]);
    });

    test("a parameter that is given twice or that nobody knows is refused by name", async () => {
      const known: Record<string, string> = { "/api/v1/scripts": "path", "/api/v1/scripts/content": "path" };
      for (const surface of SURFACES) {
        known[`/api/v1/${surface}/runs`] = "limit";
        known[`/api/v1/${surface}/runs/${RUN}/logs`] = "after";
      }
      const bare = [
        ...Object.keys(known),
        "/api/v1/pipelines/recipes",
        "/healthz",
        ...SURFACES.map((s) => `/api/v1/${s}/runs/${RUN}`),
      ];
      await expectRefused([
        ...Object.entries(known).map(([path, name]): Bad => ({
          names: `query.${name}`,
          method: "GET",
          path: `${path}?${name}=1&${name}=1`,
        })),
        ...[...PROTOTYPE_NAMES, "extra", "key", "LIMIT", "limit[]", "a.b"].flatMap((name) => [
          ...bare.map((path): Bad => ({
            names: `query.${name}`,
            method: "GET",
            path: `${path}?${encodeURIComponent(name)}=1`,
          })),
          ...POSTS.map((path): Bad => ({
            names: `query.${name}`,
            method: "POST",
            path: `${path}?${encodeURIComponent(name)}=1`,
            how: { body: {} },
          })),
        ]),
      ]);
    });

    test("an empty status, limit, cursor or path means that it was left out", async () => {
      await using own = await startHub({ deploy });
      const run = await own.runScript("true");
      await own.ended(run);
      const lists = await Promise.all([
        own.get("/api/v1/scripts/runs?status=&limit="),
        own.get("/api/v1/scripts/runs?status=&limit=&cursor="),
        own.get("/api/v1/scripts/runs"),
      ]);
      for (const { json } of lists)
        expect(json.runs.map((r: { run_id: string }) => r.run_id)).toEqual([run.run_id]);
      expect((await own.get("/api/v1/scripts?path=")).json.scripts).toHaveLength(1);
    });
  });
}

const POSTS = SURFACES.flatMap((surface) => [
  `/api/v1/${surface}/runs`,
  `/api/v1/${surface}/runs/${RUN}/kill`,
]);

function launch(surface: string, body: unknown, names: string): Bad {
  return { names, method: "POST", path: `/api/v1/${surface}/runs`, how: { body } };
}

function kill(surface: string, body: unknown, names: string): Bad {
  return { names, method: "POST", path: `/api/v1/${surface}/runs/${RUN}/kill`, how: { body } };
}

function queries(path: string, values: Record<string, string[]>): Bad[] {
  return Object.entries(values).flatMap(([name, texts]) =>
    texts.map((text): Bad => ({ names: name, method: "GET", path: `${path}?${name}=${text}` })),
  );
}

function expectRefusal({ status, headers, json }: Answer, { names, method, path, how }: Bad): void {
  const what = `${method} ${path.slice(0, 200)} ${JSON.stringify(how ?? {}).slice(0, 200)}: ${JSON.stringify(json)}`;
  expect(status, what).toBeGreaterThanOrEqual(400);
  expect(status, what).toBeLessThan(500);
  expect(headers.get("content-type"), what).toBe("application/problem+json");
  expect(json.detail, what).toContain(names);
  expect(json.detail.length, "it says more than the name").toBeGreaterThan(names.length + 5);
  expect(json.detail.length, "it does not repeat what it was sent").toBeLessThan(1_000);
}

/** What a launch would leave behind: runs, folders, logs, scripts. */
async function footprint(hub: Hub): Promise<unknown> {
  const files = await readdir(hub.dir, { recursive: true });
  return {
    files: files
      .filter(
        (name) => !name.startsWith(join("state", "runs.db")) && !name.startsWith(join("state", "kv.db")),
      )
      .toSorted(),
    pipelines: (await hub.get("/api/v1/pipelines/runs")).json,
    scripts: (await hub.get("/api/v1/scripts/runs")).json,
  };
}
