import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { promisify } from "node:util";

import { afterAll, beforeAll, expect, test } from "vitest";

import { type Hub, startHub } from "../support/hub.ts";
import { type AnyJson, checkedAnswer, closed, responseOf } from "../support/openapi-check.ts";

let hub: Hub;
let document: AnyJson;
beforeAll(async () => {
  hub = await startHub();
  document = (await hub.get("/openapi.json", { key: null })).json;
});
afterAll(() => hub[Symbol.asyncDispose]());

test.for(["openapi.json", "openapi-3.0.json"])("the served %s passes the linter", async (name) => {
  const file = join(hub.dir, name);
  await writeFile(file, (await hub.get(`/${name}`, { key: null })).bytes);
  const cli = join(
    dirname(createRequire(import.meta.url).resolve("@redocly/cli/package.json")),
    "bin/cli.js",
  );
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [cli, "lint", file, "--extends", "recommended", "--format", "json"],
    { cwd: hub.dir, env: { REDOCLY_TELEMETRY: "off", REDOCLY_SUPPRESS_UPDATE_NOTICE: "true" } },
  );
  const { totals, problems } = JSON.parse(stdout.slice(stdout.indexOf("{"), stdout.lastIndexOf("}") + 1));
  expect({ problems, totals }).toEqual({ problems: [], totals: { errors: 0, warnings: 0, ignored: 0 } });
});

test("the OpenAPI document does not depend on a Hub's settings", async () => {
  await using other = await startHub({
    keys: [],
    recipes: [{ recipe_id: "other", title: "Other", description: "", command: ["true"] }],
    env: { HUB_MAX_RUNNING: "1", HUB_MAX_LOG_BYTES: "0", HUB_RATE_PER_KEY: "10", HUB_KV: "memory:" },
  });
  expect((await other.get("/openapi.json")).json).toEqual(document);
});

const LAUNCH = "header Idempotency-Key, header Prefer, header X-Request-Id, body";
const PREVIEW = "header X-Request-Id, body";
const LIST = "query cursor, query label, query limit, query status, header X-Request-Id";
const RUN = "path run_id, header Prefer, header X-Request-Id";
const KILL = "path run_id, header X-Request-Id, body";
const LOG = "path run_id, query after, query max_bytes, query wait, header X-Request-Id";

test("the OpenAPI document has every operation of the API document, with its scope and parameters", () => {
  expect(operations().map(({ key, operation }) => [key, scopeOf(operation), inputsOf(operation)])).toEqual([
    ["GET /api/v1/pipelines/recipes", "pipelines:read", "header X-Request-Id"],
    ["GET /api/v1/pipelines/runs", "pipelines:read", LIST],
    ["GET /api/v1/pipelines/runs/{run_id}", "pipelines:read", RUN],
    ["GET /api/v1/pipelines/runs/{run_id}/logs", "pipelines:read", LOG],
    ["GET /api/v1/scripts", "scripts:read", "query path, header X-Request-Id"],
    ["GET /api/v1/scripts/content", "scripts:read", "query path, header X-Request-Id"],
    ["GET /api/v1/scripts/runs", "scripts:read", LIST],
    ["GET /api/v1/scripts/runs/{run_id}", "scripts:read", RUN],
    ["GET /api/v1/scripts/runs/{run_id}/logs", "scripts:read", LOG],
    ["GET /healthz", undefined, "header X-Request-Id"],
    ["POST /api/v1/pipelines/previews", "pipelines:write", PREVIEW],
    ["POST /api/v1/pipelines/runs", "pipelines:write", LAUNCH],
    ["POST /api/v1/pipelines/runs/{run_id}/kill", "pipelines:write", KILL],
    ["POST /api/v1/scripts/previews", "scripts:write", PREVIEW],
    ["POST /api/v1/scripts/runs", "scripts:write", LAUNCH],
    ["POST /api/v1/scripts/runs/{run_id}/kill", "scripts:write", KILL],
  ]);
});

test("a collection made of the OpenAPI document has one key for all requests", () => {
  expect(document.security).toEqual([{ bearer: [] }]);
});

test("the OpenAPI document requires the headers that every answer of an operation has", () => {
  const answers = operations().flatMap(({ key, operation }) =>
    Object.keys(operation.responses).map((status) => {
      const [method, path] = key.split(" ") as [string, string];
      const { described } = responseOf(document, [path, method.toLowerCase(), status]);
      const headers = Object.entries<AnyJson>(described!.headers!).map(([name, { $ref, ...header }]) => ({
        name,
        ...($ref ? document.components.headers[$ref.replace("#/components/headers/", "")] : header),
      }));
      const required = headers.filter((header) => header.required).map(({ name }) => name);
      return { answer: `${key} ${status}`, required };
    }),
  );
  expect(answers.length).toBeGreaterThan(100);
  for (const { answer, required } of answers) {
    const isLaunch = answer.endsWith("/runs 201");
    expect(required, answer).toEqual(isLaunch ? ["X-Request-Id", "Location"] : ["X-Request-Id"]);
  }
});

test("a form made of the OpenAPI document sends no Idempotency-Key and no wait that nobody typed", () => {
  for (const { key, operation } of operations()) {
    const headers = (operation.parameters as AnyJson[]).filter((parameter) => parameter.in === "header");
    for (const { name, required, ...rest } of headers) {
      expect({ required, rest: JSON.stringify(rest) }, `${key} ${name}`).toEqual({
        required: false,
        rest: expect.not.stringMatching(/"(?:example|examples|default)":/),
      });
    }
  }
});

test("every body of the OpenAPI document has an example, at the media type, where importers look for it", () => {
  const bodies = operations().filter(({ operation }) => operation.requestBody);
  expect(bodies).toHaveLength(6);
  for (const { key, operation } of bodies) {
    expect(operation.requestBody.content["application/json"].example, key).toEqual(expect.any(Object));
  }
});

test("/openapi-3.0.json has the operations and schemas of /openapi.json, for tools that do not read 3.1", async () => {
  const { json } = await hub.get("/openapi-3.0.json", { key: null });

  expect(json.openapi).toBe("3.0.3");
  expect(shape(json)).toEqual(shape(document));
  const { exit_code } = json.components.schemas.PipelineRun.properties;
  expect(exit_code).toMatchObject({ type: "integer", nullable: true });
});

test("the OpenAPI document has the callbacks that a receiver gets, each with the run of its surface", () => {
  const hooks = Object.entries<AnyJson>(document.webhooks).map(([name, { post }]) => [
    name,
    post.requestBody.content["application/json"].schema.$ref,
    post.parameters.map((parameter: { name: string }) => parameter.name),
    Object.keys(post.responses),
  ]);
  const headers = ["webhook-id", "webhook-timestamp", "webhook-signature"];
  const statuses = ["200", "410", "default"];
  expect(hooks).toEqual([
    ["pipelineRunEnded", "#/components/schemas/PipelineRun", headers, statuses],
    ["scriptRunEnded", "#/components/schemas/ScriptRun", headers, statuses],
  ]);
});

test("a generated client has one success to expect of each operation, and one schema of it", () => {
  for (const { key, operation } of operations()) {
    const successes = Object.entries<AnyJson>(operation.responses).filter(([status]) =>
      status.startsWith("2"),
    );
    expect(successes, key).toHaveLength(1);
    const { content } = successes[0]![1];
    // A log page is the same text in both types; the first is JSON, which generators take.
    const isLog = key.endsWith("/logs");
    expect(Object.keys(content), key).toEqual(
      isLog ? ["application/json", "text/plain"] : ["application/json"],
    );
    expect(content["application/json"].schema, key).toEqual({ $ref: expect.any(String) });
  }
});

test("a run has the type of its surface, so that no generated client has to guess between two specs", () => {
  const { PipelineRun, ScriptRun } = document.components.schemas;
  expect(PipelineRun.properties.spec).toEqual({ $ref: "#/components/schemas/PipelineSpec" });
  expect(ScriptRun.properties.spec).toEqual({ $ref: "#/components/schemas/ScriptSpec" });
  for (const { key, operation } of operations().filter((one) =>
    /\/runs(?:\/\{run_id\}(?:\/kill)?)?$/.test(one.key),
  )) {
    const { schema } = (operation.responses[200] ?? operation.responses[201]).content["application/json"];
    const surface = key.includes("/pipelines/") ? "Pipeline" : "Script";
    expect(schema.$ref, key).toMatch(new RegExp(`/${surface}Run(?:List)?$`));
  }
});

test("no field of a request has a default in the OpenAPI document, which makes it required in generated types", () => {
  const bodies = operations().flatMap(({ operation }) =>
    operation.requestBody
      ? [operation.requestBody.content["application/json"].schema.$ref.split("/").at(-1)]
      : [],
  );
  for (const name of new Set<string>(bodies)) {
    const found = nodesOf(document.components.schemas[name], []).filter(({ node }) => "default" in node);
    expect(
      found.map(({ path }) => path.join(".")),
      name,
    ).toEqual([]);
  }
  const { PipelineLaunch, PipelineSpec, KillOrder } = document.components.schemas;
  expect(PipelineLaunch.required).toEqual(["recipe_id"]);
  expect(KillOrder.required).toBeUndefined();
  expect(PipelineSpec.required, "what a record shows of the launch").toEqual(["recipe_id", "args"]);
});

test("every whole number of the OpenAPI document has a format, so that no client reads an offset as 32 bits", () => {
  const integers = nodesOf(document, []).filter(({ node }) => [node.type].flat().includes("integer"));
  expect(integers.length).toBeGreaterThan(20);
  for (const { node, path } of integers) {
    const isLong = /(?:offset|size|_at|^after)$/i.test(pathName(path, node));
    expect(node.format, path.join("/")).toMatch(isLong ? /^int64$/ : /^int(?:32|64)$/);
    expect(node.minimum ?? 0, path.join("/")).toBeGreaterThanOrEqual(0);
  }
});

test("no schema inside the OpenAPI document declares a dialect, which importers refuse", () => {
  const found = nodesOf(document, []).filter(({ node }) => "$schema" in node);
  expect(found.map(({ path }) => path.join("/"))).toEqual([]);
});

test("each choice between several schemas has a name in the OpenAPI document", () => {
  const choices = nodesOf(document, []).filter(({ node }) => node.anyOf ?? node.oneOf ?? node.allOf);
  expect(choices.map(({ path }) => path.join("/"))).toEqual(["components/schemas/ParamValue"]);
});

test("every protected operation documents its refusals, and every answer its request id", () => {
  for (const { key, operation } of operations()) {
    const statuses = Object.keys(operation.responses);
    const needed =
      scopeOf(operation) === undefined ? ["422", "500"] : ["401", "403", "422", "500", "502", "503", "504"];
    expect(statuses, key).toEqual(expect.arrayContaining(needed));
    for (const status of statuses) {
      const [method, path] = key.split(" ") as [string, string];
      const { described } = responseOf(document, [path, method.toLowerCase(), status]);
      expect(described?.headers, `${key} ${status}`).toHaveProperty("X-Request-Id");
    }
  }
});

test("every success of the OpenAPI document has an example", () => {
  for (const { key, operation } of operations()) {
    const { content } = operation.responses[200] ?? operation.responses[201];
    expect(content["application/json"].example, key).toEqual(expect.any(Object));
  }
});

test("what many answers share is in the OpenAPI document once", () => {
  const responses = operations().flatMap(({ operation }) => Object.entries<AnyJson>(operation.responses));
  const inlined = responses.filter(([status, response]) => Number(status) >= 400 && !response.$ref);
  expect(inlined.map(([status, { description }]) => [status, description])).toEqual([
    ["503", "Requests cannot be served"],
  ]);
  const details = Object.values<AnyJson>(document.components.responses).flatMap(({ content }) =>
    Object.entries<AnyJson>(content["application/problem+json"].examples).map(
      ([, { value }]) => value.detail,
    ),
  );
  const different = new Set(details);
  expect(different.size, "each problem has words of a real case").toBeGreaterThan(20);
  expect(JSON.stringify(document).length).toBeLessThan(100_000);
});

test("a client that has the OpenAPI document asks whether it has changed, and gets no second copy", async () => {
  for (const path of ["/openapi.json", "/openapi-3.0.json"]) {
    const { headers, bytes } = await hub.get(path, { key: null });
    const etag = headers.get("etag")!;
    expect(etag).toMatch(/^"[0-9a-f]{32}"$/);
    expect(headers.get("cache-control")).toBe("no-cache");
    for (const known of [etag, `W/${etag}`, `"other", ${etag}`]) {
      const again = await hub.get(path, { key: null, headers: { "if-none-match": known } });
      expect({ status: again.status, length: again.bytes.length }, known).toEqual({ status: 304, length: 0 });
    }
    const other = await hub.get(path, { key: null, headers: { "if-none-match": '"other"' } });
    expect({ status: other.status, length: other.bytes.length }).toEqual({
      status: 200,
      length: bytes.length,
    });
  }
});

const HEALTHY = { status: "ok", mode: "enforced", agent: "ok", problems: [] };

test.for([
  ["a field is missing", { ...HEALTHY, mode: undefined }, {}],
  ["a field has another type", { ...HEALTHY, problems: "none" }, {}],
  ["a field has a value that is not listed", { ...HEALTHY, status: "fine" }, {}],
  ["there is a field that is not documented", { ...HEALTHY, uptime: 5 }, {}],
  [
    "there is a header that is not documented",
    HEALTHY,
    { headers: { "content-type": "application/json", "x-request-id": "x", "hub-uptime": "5" } },
  ],
  ["the status is not documented", HEALTHY, { status: 202 }],
  [
    "the content type is not documented",
    HEALTHY,
    { headers: { "content-type": "text/html", "x-request-id": "x" } },
  ],
  ["there is no request id", HEALTHY, { headers: { "content-type": "application/json" } }],
] as [string, object, ResponseInit][])(
  "an answer in which %s does not pass the check",
  async ([, body, init]) => {
    const headers = { "content-type": "application/json", "x-request-id": "x" };
    const check = (json: object, how: ResponseInit) =>
      checkedAnswer(hub.url, "GET", "/healthz", Response.json(json, { headers, ...how }));
    expect((await check(HEALTHY, {})).status).toBe(200);
    await expect(check(body, init)).rejects.toThrow(/healthz/);
  },
);

test("a launch whose answer has no Location does not pass the check", async () => {
  const path = "/api/v1/pipelines/runs";
  const run = document.paths[path].post.responses["201"].content["application/json"].example;
  const check = (headers: Record<string, string>) =>
    checkedAnswer(
      hub.url,
      "POST",
      path,
      Response.json(run, { status: 201, headers: { "x-request-id": "x", ...headers } }),
    );
  expect((await check({ location: `${path}/${run.run_id}` })).status).toBe(201);
  await expect(check({})).rejects.toThrow(/201 lacks a header that the document requires/);
});

test("the served OpenAPI document allows further fields in answers, for servers of a later version", () => {
  const objects = Object.entries<AnyJson>(document.components.schemas).filter(
    ([, { type }]) => type === "object",
  );
  const shut = objects.filter(([, schema]) => schema.additionalProperties === false).map(([name]) => name);
  expect(shut, "what clients send").toEqual(["KillOrder", "PipelineLaunch", "ScriptLaunch"]);
  const { LogPage } = (closed(document) as AnyJson).components.schemas;
  expect(LogPage.additionalProperties).toBe(false);
});

function operations(): { key: string; operation: AnyJson }[] {
  return Object.entries<Record<string, AnyJson>>(document.paths)
    .flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({
        key: `${method.toUpperCase()} ${path}`,
        operation,
      })),
    )
    .toSorted((a, b) => (a.key < b.key ? -1 : 1));
}

/** The one scope of an operation that asks for a key; undefined for one that does not. */
function scopeOf(operation: AnyJson): string | undefined {
  const [scope, ...others] = operation["x-required-scopes"] ?? [];
  expect(others).toEqual([]);
  // The document's own security counts, except where there is none.
  expect(operation.security).toEqual(scope === undefined ? [] : undefined);
  return scope;
}

function inputsOf(operation: AnyJson): string {
  const places = ["path", "query", "header"];
  const parameters = (operation.parameters as { in: string; name: string; description?: string }[])
    .toSorted((a, b) => places.indexOf(a.in) - places.indexOf(b.in) || (a.name < b.name ? -1 : 1))
    .map((parameter) => {
      expect(parameter.description, parameter.name).toBeTruthy();
      return `${parameter.in} ${parameter.name}`;
    });
  return [...parameters, ...(operation.requestBody ? ["body"] : [])].join(", ");
}

/** The operations, and the fields of the schemas. */
function shape({ paths, components }: AnyJson): object {
  return {
    operations: Object.entries<AnyJson>(paths).map(([path, item]) => [path, Object.keys(item)]),
    schemas: Object.entries<AnyJson>(components.schemas).map(([name, { properties = {} }]) => [
      name,
      Object.keys(properties),
    ]),
  };
}

/** Every object of the document but the examples, with the names that lead to it. */
function nodesOf(node: AnyJson, path: string[]): { node: AnyJson; path: string[] }[] {
  if (typeof node !== "object" || node === null) return [];
  const children = Object.entries<AnyJson>(node)
    .filter(([name]) => name !== "example" && name !== "examples")
    .flatMap(([name, child]) => nodesOf(child, [...path, name]));
  return [{ node, path }, ...children];
}

/** What the schema at this path is of: a field, a header or a parameter. */
function pathName(path: string[], node: AnyJson): string {
  if (path.at(-1) !== "schema") return path.at(-1)!;
  const parent = path.slice(0, -1).reduce<AnyJson>((at, name) => at[name], document);
  expect(parent.schema).toBe(node);
  return parent.name ?? path.at(-2)!;
}
