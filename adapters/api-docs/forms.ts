import { hubClient } from "../client/hub-client.ts";

interface Parameter {
  name: string;
  in: string;
  schema?: { example?: unknown; examples?: unknown };
  example?: unknown;
  examples?: unknown;
}

/** The parts of the OpenAPI document that the forms of the page are made of. */
export interface Document {
  servers?: { url: string }[];
  paths: Record<string, Record<string, Operation>>;
}

interface Operation {
  parameters?: Parameter[];
  requestBody?: { content: Record<string, { example?: object }> };
}

/** Values of this Hub that a request can be tried with; undefined where there is none or the key may not read it. */
interface Found {
  recipe_id?: string | undefined;
  path?: string | undefined;
  runs: Record<"pipeline" | "script", string | undefined>;
}

/**
 * The document with forms that work when they are sent as they are: the recipe, script and runs of this Hub instead of those
 * of the examples, which exist nowhere, no wait that holds the answer back, and this Hub's address as the server.
 */
export async function fillForms(
  document: Document,
  base: string,
  key: string | undefined,
): Promise<Document> {
  const found = await look(base, key);
  for (const [route, operations] of Object.entries(document.paths)) {
    const runId = found.runs[route.includes("/scripts/") ? "script" : "pipeline"];
    const values: Record<string, string | undefined> = { run_id: runId, path: found.path, Prefer: undefined };
    for (const { parameters = [], requestBody } of Object.values(operations)) {
      for (const parameter of parameters) {
        if (Object.hasOwn(values, parameter.name)) setExample(parameter, values[parameter.name]);
      }
      for (const body of Object.values(requestBody?.content ?? {})) setBody(body, found);
    }
  }
  return { ...document, servers: [{ url: base }] };
}

function setExample(parameter: Parameter, value: string | undefined): void {
  const { example: _one, examples: _some, ...schema } = parameter.schema ?? {};
  parameter.schema = schema;
  delete parameter.example;
  delete parameter.examples;
  if (value !== undefined) parameter.example = value;
}

/** The body of a launch or preview names what can be started here; other bodies, as that of /kill, work as they are. */
function setBody(body: { example?: object }, { recipe_id, path }: Found): void {
  const { example = {} } = body;
  if ("recipe_id" in example && recipe_id !== undefined) body.example = { recipe_id, args: "" };
  if ("path" in example && path !== undefined) body.example = { path, args: "" };
}

/** What a key cannot read is left out: the page shows the document in any case. */
async function look(base: string, key: string | undefined): Promise<Found> {
  const hub = hubClient({ url: base, key, init: { cache: "no-store", credentials: "omit" } });
  const isOpen = key !== undefined || (await hub.health().catch(() => undefined))?.mode === "dev";
  if (!isOpen) return { runs: { pipeline: undefined, script: undefined } };
  const newest = (source: "pipeline" | "script") =>
    hub.listRuns(source, { limit: 1 }).then(({ runs }) => runs[0]?.run_id, nothing);
  const [recipe_id, path, pipeline, script] = await Promise.all([
    hub.listRecipes().then(({ recipes }) => recipes[0]?.recipe_id, nothing),
    hub.listScripts().then(({ scripts }) => scripts[0]?.path, nothing),
    newest("pipeline"),
    newest("script"),
  ]);
  return { recipe_id, path, runs: { pipeline, script } };
}

function nothing(): undefined {
  return undefined;
}
