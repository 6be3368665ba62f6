import { expect, test } from "vitest";

import { type Deploy, type Hub, startHub } from "../../support/hub.ts";
import {
  type Bad,
  expectRefused,
  POSTS,
  PROTOTYPE_NAMES,
  queries,
  RUN,
  SURFACES,
  TRAVERSALS,
} from "./bad-requests.ts";

/** Bad ids in the path and bad parameters of the query: each is refused by name, and nothing else happens. */
export function badQueries(hub: () => Hub, deploy: Deploy): void {
  test("a malformed run_id is refused by every operation on a run", async () => {
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
      hub(),
      SURFACES.flatMap((surface) =>
        ids.flatMap((id): Bad[] => [
          { names: "path.run_id", method: "GET", path: `/api/v1/${surface}/runs/${id}` },
          { names: "path.run_id", method: "GET", path: `/api/v1/${surface}/runs/${id}/logs` },
          { names: "path.run_id", method: "POST", path: `/api/v1/${surface}/runs/${id}/kill` },
        ]),
      ),
    );
  });

  test("an unknown run answers 404 to every operation on a run", async () => {
    for (const surface of SURFACES) {
      const url = `/api/v1/${surface}/runs/${RUN}`;
      const answers = [await hub().get(url), await hub().get(`${url}/logs`), await hub().post(`${url}/kill`)];
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

  test("an invalid query parameter of a run list is refused", async () => {
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
    await expectRefused(
      hub(),
      SURFACES.flatMap((surface) => queries(`/api/v1/${surface}/runs`, values)),
    );
  });

  test("an invalid query parameter of a log page is refused", async () => {
    const values = {
      after: ["", "9007199254740993", ...NUMBERS],
      max_bytes: ["", "0", ...NUMBERS],
      wait: ["", "31", ...NUMBERS],
    };
    await expectRefused(
      hub(),
      SURFACES.flatMap((surface) => queries(`/api/v1/${surface}/runs/${RUN}/logs`, values)),
    );
  });

  test("a path in the query that is not an allowed folder or script is refused", async () => {
    const forms = [
      "x.sh",
      "%00",
      `${hub().root}/a%00.sh`,
      "/etc",
      "/etc/passwd",
      "/",
      `${hub().root}-evil`,
      `${hub().root}/..`,
      `${hub().root}/%2e%2e/`,
      `${hub().root}/no`,
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
    await expectRefused(hub(), queries("/api/v1/scripts", { path: values }));
    await expectRefused(hub(), queries("/api/v1/scripts/content", { path: ["", hub().root, ...values] }));
    await expectRefused(hub(), [{ names: "query.path", method: "GET", path: "/api/v1/scripts/content" }]);
  });

  test("a duplicate or unknown query parameter is refused by name", async () => {
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
    await expectRefused(hub(), [
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

  test("an empty status, limit, cursor or path is the same as none", async () => {
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
}
