import { mkdir, readdir, symlink } from "node:fs/promises";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { type Hub, startHub } from "../support/hub.ts";
import { type Answer, type AnyJson, servedDocument } from "../support/openapi-check.ts";
import { PROTOTYPE_NAMES, RECIPE, TAKES, textForms, WRONG_TYPES } from "./bad-forms.ts";

/**
 * The operations and all that they take are read from the served document, so
 * that a new field meets every bad form too. What a field may take after all
 * is said in `TAKES`: there is no other way past these tests.
 */

interface Field {
  name: string;
  required: boolean;
  schema: AnyJson;
}

interface Operation {
  /** As in `GET /api/v1/scripts`. */
  key: string;
  method: string;
  template: string;
  parameters: (Field & { in: string })[];
  /** The body's fields; undefined for an operation without a body. */
  fields: Field[] | undefined;
}

/** One request that is as it should be but for one thing. */
interface Case {
  /** As an answer names it: `query.limit`. */
  field: string;
  /** The request in words. */
  what: string;
  ask(): Promise<Answer>;
  /** The status of the same request without the one thing, where that is good after all. */
  taken?: number;
}

/** What is changed of a good request. Texts of a query and a path are not encoded yet; a body's fields are JSON. */
interface Change {
  runId?: string;
  query?: [name: string, text: string][];
  leaveOut?: string;
  headers?: Record<string, string>;
  fields?: [name: string, json: string][];
  body?: string | Uint8Array;
}

describe("bad input to every operation of the served OpenAPI document", () => {
  let hub: Hub;
  let operations: Operation[];
  let script: string;
  /** By source: a run that would be seen to be killed, and one that cannot be any more. */
  let alive: Record<string, string>;
  let ended: Record<string, string>;
  beforeAll(async () => {
    const sleeper = { ...RECIPE, recipe_id: "sleeper", command: ["/bin/sleep", "300"] };
    hub = await startHub({ recipes: [RECIPE, sleeper] });
    await mkdir(`${hub.root}-evil`);
    await symlink("/etc", join(hub.root, "folder"));
    await symlink("/etc/passwd", join(hub.root, "link.sh"));
    script = await hub.script("good.sh", '[ -z "$1" ] || exec sleep 300');
    operations = readOperations(await servedDocument(hub.url));
    const launch = async (source: string, body: object) =>
      (await hub.post(`/api/v1/${source}/runs`, body)).json;
    const quick = [
      await launch("pipelines", { recipe_id: "typed" }),
      await launch("scripts", { path: script }),
    ];
    await Promise.all(quick.map((run) => hub.ended(run)));
    ended = { pipelines: quick[0].run_id, scripts: quick[1].run_id };
    alive = {
      pipelines: (await launch("pipelines", { recipe_id: "sleeper" })).run_id,
      scripts: (await launch("scripts", { path: script, args: "x" })).run_id,
    };
  });
  afterAll(() => hub[Symbol.asyncDispose]());

  test("each bad form of a parameter, header or body field is refused with its name and the reason", async () => {
    const cases = operations.flatMap((operation) => [
      ...operation.parameters.flatMap((parameter) => parameterCases(operation, parameter)),
      ...(operation.fields ?? []).flatMap((field) => fieldCases(operation, field)),
    ]);
    const kinds = new Set(cases.map(({ field }) => field));
    expect(Object.keys(TAKES).filter((field) => !kinds.has(field.split(" of ")[0]!))).toEqual([]);
    expect(cases.length).toBeGreaterThan(1_500);
    await expectCases(cases);
  });

  test("a missing, duplicate or unknown parameter or field is refused with its name", async () => {
    await expectCases(operations.flatMap(nameCases));
  });

  test("a body that is empty, cut off, not an object, of another type or too long is refused", async () => {
    const withBody = operations.filter(({ fields }) => fields);
    expect(withBody).toHaveLength(6);
    await expectCases(withBody.flatMap(bodyCases));
  });

  async function expectCases(cases: Case[]): Promise<void> {
    const before = await footprint();
    for (const { what, ask, taken } of cases.filter((one) => one.taken !== undefined)) {
      const { status, json } = await ask();
      expect(status, `${what}: ${shown(json)}`).toBe(taken);
    }
    for (const { what, ask, field } of cases.filter((one) => one.taken === undefined)) {
      const { status, headers, json } = await ask();
      const answered = `${what}: ${shown(json)}`;
      expect(status, answered).toBeGreaterThanOrEqual(400);
      expect(status, answered).toBeLessThan(500);
      expect(headers.get("content-type"), answered).toBe("application/problem+json");
      // A recipe or path that is looked for is called as in the API document.
      const name = [403, 404].includes(status) ? field.split(".")[1]! : field;
      expect(json.detail, answered).toContain(`${name}: `);
      expect(json.detail.length, "it gives a reason").toBeGreaterThan(field.length + 10);
      expect(json.detail.length, "it does not repeat what it was sent").toBeLessThan(1_500);
    }
    expect(await footprint(), "nothing was started, stopped or written").toEqual(before);
  }

  /** All runs with all that is known of them, and the names of all files. */
  async function footprint(): Promise<unknown> {
    const files = await readdir(hub.dir, { recursive: true });
    return {
      files: files.filter((name) => !/^state\/(?:runs|kv)\.db/.test(name)).toSorted(),
      pipelines: (await hub.get("/api/v1/pipelines/runs")).json,
      scripts: (await hub.get("/api/v1/scripts/runs")).json,
    };
  }

  function parameterCases(
    operation: Operation,
    { in: place, name, schema }: Operation["parameters"][0],
  ): Case[] {
    const forms = textForms(hub, 5_000);
    if (schema.minimum !== undefined) forms.push(["too small", String(schema.minimum - 1)]);
    if (schema.maximum !== undefined) forms.push(["too great", String(schema.maximum + 1)]);
    const field = `${place}.${place === "header" ? name.toLowerCase() : name}`;
    if (place === "query") {
      return forms.map(([form, text]) => caseOf(operation, field, form, { query: [[name, text]] }));
    }
    if (place === "path") {
      // A client takes `..` out itself, and with an empty id it asks for the list: test/behaviour/security/http.test.ts.
      return forms
        .filter(([, text]) => text !== "" && !/^(?:\.|%2e){2}$/.test(text))
        .map(([form, text]) => caseOf(operation, field, form, { runId: text }));
    }
    expect(place, `${operation.key} takes ${name}`).toBe("header");
    // Never refused, and read before there is an operation.
    if (name === "X-Request-Id" && operation.key !== "GET /healthz") return [];
    return forms
      .filter(([, text]) => !/[\0\r\n]/.test(text)) // HTTP itself has no such headers: test/adapters/node/raw-http.test.ts.
      .map(([form, text]) => {
        const bytes = Buffer.from(text).toString("latin1");
        return caseOf(operation, field, form, { headers: { [name]: bytes } });
      });
  }

  function fieldCases(operation: Operation, { name, schema }: Field): Case[] {
    const types = WRONG_TYPES[schema.type];
    if (!types) throw new Error(`${operation.key} has a ${name} of type ${schema.type}: what is it not?`);
    const jsons = types.map((json): [string, string] => [`JSON ${json}`, json]);
    const texts = textForms(hub, 33_000).map(([form, text]): [string, string] => [
      form,
      JSON.stringify(text),
    ]);
    const forms = [...jsons, ...texts];
    if (schema.type === "string") forms.push(["half a character", String.raw`"a\ud800b"`]);
    if (schema.minimum !== undefined) forms.push(["JSON too small", String(schema.minimum - 1)]);
    if (schema.maximum !== undefined) forms.push(["JSON too great", String(schema.maximum + 1)]);
    return forms.map(([form, json]) => caseOf(operation, `body.${name}`, form, { fields: [[name, json]] }));
  }

  function nameCases(operation: Operation): Case[] {
    const { parameters, fields = [] } = operation;
    const queries = parameters.filter((parameter) => parameter.in === "query");
    const required = [
      ...queries.map((parameter) => ({ ...parameter, place: "query" })),
      ...fields.map((field) => ({ ...field, place: "body" })),
    ].filter((field) => field.required);
    const strangers = [...PROTOTYPE_NAMES, "extra", "a.b", "limit[]"];
    return [
      ...required.map(({ place, name }) =>
        caseOf(operation, `${place}.${name}`, "missing", { leaveOut: name }),
      ),
      ...queries.flatMap(({ name }) =>
        [
          ["1", "1"],
          ["", "1"],
          ["running", "failed"],
        ].map((texts) =>
          caseOf(operation, `query.${name}`, "twice", {
            query: texts.map((text): [string, string] => [name, text]),
          }),
        ),
      ),
      ...fields
        .filter(({ name }) => !name.includes("."))
        .map(({ name }) =>
          caseOf(operation, `body.${name}`, "twice", {
            fields: [
              [name, '"x"'],
              [name, '"x"'],
            ],
          }),
        ),
      ...[...strangers, "API_KEY", ...queries.map(({ name }) => name.toUpperCase())].map((name) =>
        caseOf(operation, `query.${name}`, "unknown", { query: [[name, "1"]] }),
      ),
      ...(operation.fields ? [...strangers, "Args"] : []).map((name) =>
        caseOf(operation, `body.${name}`, "unknown", { fields: [[name, "{}"]] }),
      ),
      ...(fields.some(({ name }) => name === "params") ? strangers : []).map((name) =>
        caseOf(operation, `body.params.${name}`, "unknown", { fields: [["params", `{"${name}":1}`]] }),
      ),
    ];
  }

  function bodyCases(operation: Operation): Case[] {
    const good = JSON.stringify({ ...goodFields(operation), ...(isLaunch(operation) && { args: "1" }) });
    const whole = isLaunch(operation) ? good : '{"signal": "SIGTERM"}';
    const none = isLaunch(operation) ? [""] : [];
    const cuts = [1, 5, whole.length - 8, whole.length - 1].map((length) => whole.slice(0, length));
    const texts = [
      ...none,
      ...cuts,
      `${whole}x`,
      `${whole}${whole}`,
      "null",
      "5",
      '"x"',
      `[${whole}]`,
      "\0",
      "NaN",
    ];
    const halves = [...Buffer.from(`${whole.slice(0, -1)},"label":"`), 0xff, 0xc3, 0x22, 0x7d];
    const types = ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "json", ""];
    const odd = ["multipart/form-data; boundary=x", "application/json; charset=utf-16"];
    return [
      ...texts.map((body) => caseOf(operation, "body", `of ${JSON.stringify(body)}`, { body })),
      caseOf(operation, "body", "in half UTF-8", { body: Uint8Array.from(halves) }),
      ...[65_537, 10_000_000].map((length) =>
        caseOf(operation, "body", `of ${length} bytes`, {
          body: `${whole}${" ".repeat(length - whole.length)}`,
        }),
      ),
      ...[...types, ...odd].map((type) =>
        caseOf(operation, "header.content-type", type, { headers: { "content-type": type }, body: whole }),
      ),
      ...["gzip", "br", "x"].map((encoding) =>
        caseOf(operation, "header.content-encoding", encoding, {
          headers: { "content-encoding": encoding },
          body: whole,
        }),
      ),
    ];
  }

  /** The good request of the operation with this one change. */
  function caseOf(operation: Operation, field: string, form: string, change: Change): Case {
    const { key, method, template } = operation;
    const takes = TAKES[`${field} of ${key}`] ?? TAKES[field];
    const isTaken = takes?.has(form) === true;
    const source = template.includes("/pipelines/") ? "pipelines" : "scripts";
    // What is taken must not stop a run; what is refused would be seen to have stopped one.
    const runId =
      change.runId === undefined ? (isTaken ? ended : alive)[source]! : encodeURIComponent(change.runId);
    const query = change.query ?? [];
    if (key === "GET /api/v1/scripts/content" && change.leaveOut !== "path") {
      if (!query.some(([name]) => name === "path")) query.push(["path", script]);
    }
    const search = query.map(([name, text]) => `${encodeURIComponent(name)}=${encodeURIComponent(text)}`);
    const body = operation.fields && (change.body ?? bodyOf(operation, change, isTaken));
    const path = `${template.replace("{run_id}", runId)}${search.length > 0 ? `?${search.join("&")}` : ""}`;
    const how = { ...(change.headers && { headers: change.headers }), ...(body !== undefined && { body }) };
    return {
      field,
      what: `${method} ${path.slice(0, 200)} with ${field} ${form}`,
      ask: () => hub.ask(method, path, how),
      ...(isTaken && { taken: key.endsWith("/kill") ? 409 : 200 }),
    };
  }

  function bodyOf(operation: Operation, { fields = [], leaveOut }: Change, isDry: boolean): string {
    const named = fields.map(([name, json]): [string, string] => {
      const [parameter, inner] = name.split(".", 2);
      return inner === undefined || !name.startsWith("params.")
        ? [name, json]
        : [parameter!, `{"${inner}":${json}}`];
    });
    const given = new Set(named.map(([name]) => name));
    const others = Object.entries(goodFields(operation))
      .filter(([name]) => name !== leaveOut && !given.has(name))
      .map(([name, value]): [string, string] => [name, JSON.stringify(value)]);
    if (isDry && operation.template.endsWith("/runs")) others.push(["dry_run", "true"]);
    return `{${[...others, ...named].map(([name, json]) => `${JSON.stringify(name)}:${json}`).join(",")}}`;
  }

  function goodFields({ key }: Operation): Record<string, string> {
    if (key.endsWith("/kill")) return {};
    return key.includes("/pipelines/") ? { recipe_id: "typed" } : { path: script };
  }
});

const shown = (json: unknown) => JSON.stringify(json).slice(0, 1_000);

/** A launch, or a preview of one. */
const isLaunch = ({ template }: Operation) => /\/(?:runs|previews)$/.test(template);

function readOperations(document: AnyJson): Operation[] {
  return Object.entries<AnyJson>(document.paths).flatMap(([template, methods]) =>
    Object.entries<AnyJson>(methods).map(([method, { parameters, requestBody }]): Operation => {
      const key = `${method.toUpperCase()} ${template}`;
      const schema = requestBody?.content["application/json"].schema;
      const fields = schema && fieldsOf(document.components.schemas[schema.$ref.split("/").at(-1)]);
      return { key, method: method.toUpperCase(), template, parameters, fields };
    }),
  );
}

/** The fields of a body, and for `params` the parameters of the recipe. */
function fieldsOf({ properties, required = [] }: AnyJson): Field[] {
  const fields = Object.entries<AnyJson>(properties).map(([name, schema]): Field => ({
    name,
    schema,
    required: required.includes(name),
  }));
  if (!("params" in properties)) return fields;
  const params = RECIPE.params.map(({ name, type, ...limits }): Field => {
    const schema = { ...limits, type: type === "enum" ? "string" : type };
    return { name: `params.${name}`, schema, required: false };
  });
  return [...fields, ...params];
}

test("each kind of validation fault has a readable reason", async () => {
  await using hub = await startHub();
  const faults = async (path: string, body: object) => {
    const { json } = await hub.post(path, body);
    return json.errors.map((error: { path: string; message: string }) => `${error.path}: ${error.message}`);
  };
  const kill = "/api/v1/scripts/runs/run_a1b2c3d4e5f6/kill";
  const launch = "/api/v1/pipelines/runs";

  expect(await faults(launch, { recipe_id: 5, args: ["a"], params: "x", terminal: "yes" })).toEqual([
    "body.recipe_id: must be a string",
    "body.args: must be a string",
    "body.params: must be a JSON object",
    "body.terminal: must be true or false",
  ]);
  expect(await faults(launch, { recipe: "x" })).toEqual([
    "body.recipe_id: is missing",
    "body.recipe: unknown field",
  ]);
  expect(await faults(launch, [])).toEqual(["body: must be a JSON object"]);
  expect(await faults(kill, { signal: "SIGHUP", grace_seconds: 1.5 })).toEqual([
    "body.signal: must be one of SIGTERM, SIGINT, SIGKILL",
    "body.grace_seconds: must be a whole number",
  ]);
  expect(await faults(kill, { grace_seconds: 3_601 })).toEqual(["body.grace_seconds: must be at most 3600"]);
  expect(await faults(kill, { grace_seconds: -1 })).toEqual(["body.grace_seconds: must be at least 0"]);
});
