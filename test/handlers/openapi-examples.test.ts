import { afterAll, beforeAll, expect, test } from "vitest";

import { type Hub, startHub } from "../support/hub.ts";
import { type AnyJson, closed, schemaChecker } from "../support/openapi-check.ts";

let hub: Hub;
let document: AnyJson;
beforeAll(async () => {
  hub = await startHub();
  document = (await hub.get("/openapi.json", { key: null })).json;
});
afterAll(() => hub[Symbol.asyncDispose]());

test("the OpenAPI document has the examples of the API document", () => {
  const { PipelineRun, PipelineSpec, ScriptSpec, LogPage } = document.components.schemas;
  expect(fieldExamples(PipelineSpec)).toMatchObject({
    recipe_id: "build_all_extra_features",
    args: "--limit 5000",
  });
  expect(fieldExamples(ScriptSpec)).toMatchObject({
    path: "/home/mark/scripts/my_job.sh",
    args: "--mode full",
  });
  expect(fieldExamples(PipelineRun)).toMatchObject({
    run_id: "run_a1b2c3d4e5f6",
    pid: "3505615",
    cmd: "python build_all_extra_features.py --limit 5000",
    started_at: 1_778_856_284,
    key_name: "acme-prod",
  });
  expect(fieldExamples(LogPage)).toMatchObject({
    offset: 4096,
    size: 8192,
    chunk: "started at 10:44:44\n...",
  });
});

test("the problems of the OpenAPI document have the words that the Hub answers", async () => {
  const RUNS = "/api/v1/pipelines/runs";
  const headers = { "idempotency-key": "words" };
  const { json: run } = await hub.post(RUNS, { recipe_id: "hello" }, { headers });
  const { size } = (await hub.ended(run).then(() => hub.get(`${RUNS}/${run.run_id}/logs`))).json;
  const answers = await Promise.all([
    hub.post(RUNS, "{"),
    hub.post(RUNS, "{}", { headers: { "content-type": "text/plain" } }),
    hub.post(RUNS, { recipe_id: "nightly" }),
    hub.post(RUNS, { recipe_id: "hello", args: "x" }, { headers }),
    hub.post(`${RUNS}/${run.run_id}/kill`),
    hub.post(RUNS, `{}${" ".repeat(70_000)}`),
    hub.get(RUNS, { key: null }),
    hub.get(`${RUNS}?limit=0`),
    hub.get(`${RUNS}/run_ffffffffffff`),
    hub.get(`${RUNS}/${run.run_id}/logs?after=9000`),
    hub.get("/api/v1/scripts/content?path=/etc/none.sh"),
    hub.get(`/api/v1/scripts/content?path=${hub.root}/none.sh`),
  ]);

  const examples = Object.fromEntries(
    Object.values<AnyJson>(document.components.responses).flatMap(({ content }) =>
      Object.entries<AnyJson>(content["application/problem+json"].examples),
    ),
  );
  const general = (detail: string) =>
    detail.replaceAll(/run_[0-9a-f]{12}/g, "RUN").replace(`${size} bytes`, "8192 bytes");
  for (const { json } of answers) {
    const { detail, errors } = examples[json.code].value;
    expect(general(json.detail), json.code).toBe(general(detail));
    expect(json.errors?.[0].path, json.code).toBe((errors ?? json.errors)?.[0].path);
  }
  const codes = answers.map(({ json }) => json.code);
  expect(new Set(codes).size).toBe(answers.length);
});

test("every example of the OpenAPI document matches its schema", () => {
  const found = [...examplesIn(document, [])];
  expect(found.length).toBeGreaterThan(50);
  const ajv = schemaChecker();
  // Closed to fields that no answer has, and each field that every answer has is required.
  ajv.addSchema(closed(document) as object, "openapi.json");
  for (const { pointer, value } of found) {
    const validate = ajv.compile({ $ref: `openapi.json#/${pointer}` });
    expect(validate(value), `${pointer}: ${JSON.stringify(value)} ${JSON.stringify(validate.errors)}`).toBe(
      true,
    );
  }
});

function fieldExamples({ properties }: { properties: Record<string, AnyJson> }): Record<string, unknown> {
  return Object.fromEntries(Object.entries(properties).map(([name, { example }]) => [name, example]));
}

/** Every example with the JSON pointer of the schema that it is of. */
function* examplesIn(node: AnyJson, path: string[]): Generator<{ pointer: string; value: unknown }> {
  if (typeof node !== "object" || node === null) return;
  const isProperties = path.at(-1) === "properties";
  if (!isProperties && "example" in node) {
    yield { pointer: pointerOf(node.schema ? [...path, "schema"] : path), value: node.example };
  }
  if (!isProperties && node.schema && node.examples) {
    for (const { value } of Object.values<{ value: unknown }>(node.examples)) {
      yield { pointer: pointerOf([...path, "schema"]), value };
    }
    return;
  }
  for (const [name, child] of Object.entries(node)) yield* examplesIn(child, [...path, name]);
}

function pointerOf(path: string[]): string {
  return encodeURI(path.map((part) => part.replaceAll("~", "~0").replaceAll("/", "~1")).join("/"));
}
