import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import { expect } from "vitest";

/** JSON of any shape: tests look into it and fail if it is another. */
// eslint-disable-next-line typescript/no-explicit-any
export type AnyJson = any;

/** An answer of a deployment, read to its end. */
export interface Answer {
  status: number;
  headers: Headers;
  /** The parsed body of a JSON answer, undefined for another. */
  json: AnyJson;
  bytes: Uint8Array;
}

interface Described {
  headers?: Record<string, DescribedHeader | Reference>;
  content?: Record<string, object>;
}

interface DescribedHeader {
  required?: boolean;
}

interface Document {
  paths: Record<string, Record<string, { responses: Record<string, Described | Reference> }>>;
  components: { responses: Record<string, Described>; headers: Record<string, DescribedHeader> };
}

interface Reference {
  $ref: string;
}

/** A document, and what tells whether a body fits the schema at a JSON pointer of it. */
interface Checks {
  document: Document;
  validatorAt(pointer: string): ValidateFunction;
}

let checks: Promise<Checks> | undefined;

/** The document that the deployment at `url` serves. */
export async function servedDocument(url: string): Promise<Document> {
  return (await checksOf(url)).document;
}

/** Every deployment serves the same document, as a test of it says: it is read and compiled once for a test file. */
function checksOf(url: string): Promise<Checks> {
  checks ??= fetch(`${url}/openapi.json`)
    .then(async (response) => makeChecks((await response.json()) as Document))
    .catch((error: unknown) => {
      checks = undefined;
      throw error;
    });
  return checks;
}

/** Checks values by the schemas of the document, with the formats of its numbers. */
export function schemaChecker(): Ajv2020 {
  const formats = {
    int32: {
      type: "number" as const,
      validate: (value: number) => value === Math.trunc(value) && Math.abs(value) < 2 ** 31,
    },
    int64: { type: "number" as const, validate: Number.isSafeInteger },
  };
  return new Ajv2020({ strict: false, allErrors: true, formats });
}

function makeChecks(document: Document): Checks {
  const ajv = schemaChecker();
  ajv.addSchema(closed(document) as object, "openapi.json");
  const validators = new Map<string, ValidateFunction>();
  return {
    document,
    validatorAt(pointer) {
      const validate =
        validators.get(pointer) ?? ajv.compile({ $ref: `openapi.json#/${encodeURI(pointer)}/schema` });
      validators.set(pointer, validate);
      return validate;
    },
  };
}

/**
 * The document with every object in it closed to fields that it does not name.
 * As it is served it is open, so that clients survive a field that is new; in
 * the tests a field that the document does not name is one that nobody documented.
 */
export function closed(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(closed);
  if (typeof node !== "object" || node === null) return node;
  // Each part of an `allOf` would refuse what the others name.
  if ("allOf" in node) throw new Error("the document has an allOf, which the check cannot close yet");
  const copy = Object.fromEntries(Object.entries(node).map(([name, child]) => [name, closed(child)]));
  const isOpen = "type" in node && node.type === "object" && "properties" in node;
  return isOpen && !("additionalProperties" in node) ? { ...copy, additionalProperties: false } : copy;
}

/** What HTTP itself and the pipeline put on every answer; the document names the rest. */
const EVERYWHERE =
  /^(?:date|connection|keep-alive|transfer-encoding|content-(?:type|length|encoding|security-policy)|cache-control|referrer-policy|x-content-type-options|vary)$/;

/**
 * Reads an answer and holds it against the served document: the operation must
 * list the status, the content type and the headers, those that it requires
 * must have been sent, and the body must fit the
 * schema and have no field that the schema does not name.
 */
export async function checkedAnswer(
  url: string,
  method: string,
  path: string,
  response: Response,
): Promise<Answer> {
  const bytes = new Uint8Array(await response.arrayBuffer());
  const type = response.headers.get("content-type")?.split(";", 1)[0] ?? "";
  const isJson = bytes.length > 0 && /[/+]json$/.test(type);
  const json: AnyJson = isJson ? JSON.parse(new TextDecoder().decode(bytes)) : undefined;
  const answer = { status: response.status, headers: response.headers, json, bytes };
  expect(response.headers.get("x-request-id"), `${method} ${path} has a request id`).toBeTruthy();

  const { document, validatorAt } = await checksOf(url);
  const { pathname } = new URL(path, url);
  const template = Object.keys(document.paths)
    .toSorted((a, b) => Number(a.includes("{")) - Number(b.includes("{")))
    .find((candidate) => new RegExp(`^${candidate.replaceAll(/\{\w+\}/g, "[^/]+")}/?$`).test(pathname));
  const documented = template && isDryRun(method, template, response) ? previewOf(template) : template;
  const operation = documented && document.paths[documented]?.[method.toLowerCase()];
  if (!operation || method === "HEAD") return answer;
  const { described, at } = responseOf(document, [documented, method.toLowerCase(), String(response.status)]);
  expect(
    described,
    `${method} ${template} documents ${response.status}: ${JSON.stringify(json)}`,
  ).toBeDefined();
  const what = `${method} ${template} ${response.status}`;
  expect(Object.keys(described!.content ?? {}), what).toContain(type);
  const named = new Set(Object.keys(described!.headers ?? {}).map((name) => name.toLowerCase()));
  const unnamed = [...response.headers.keys()].filter((name) => !named.has(name) && !EVERYWHERE.test(name));
  expect(unnamed, `${what} has headers that the document does not name`).toEqual([]);
  const missing = requiredHeaders(document, described!).filter((name) => !response.headers.has(name));
  expect(missing, `${what} lacks a header that the document requires`).toEqual([]);
  if (!isJson) return answer;

  const pointer = [...at, "content", type]
    .map((part) => part.replaceAll("~", "~0").replaceAll("/", "~1"))
    .join("/");
  const validate = validatorAt(pointer);
  expect(validate(json), `${pointer}: ${JSON.stringify(validate.errors)} in ${JSON.stringify(json)}`).toBe(
    true,
  );
  return answer;
}

function requiredHeaders({ components }: Document, { headers = {} }: Described): string[] {
  return Object.entries(headers).flatMap(([name, header]) => {
    const found =
      "$ref" in header ? components.headers[header.$ref.replace("#/components/headers/", "")] : header;
    return found?.required ? [name] : [];
  });
}

/** A dry run on the launch's own route is not in the document; its answer is that of the preview. */
function isDryRun(method: string, template: string, { status }: Response): boolean {
  return method === "POST" && template.endsWith("/runs") && status === 200;
}

function previewOf(template: string): string {
  return template.replace(/runs$/, "previews");
}

/** The answer that the document has for a path, method and status, and where: many are one component. */
export function responseOf(
  { paths, components }: Document,
  [path, method, status]: [path: string, method: string, status: string],
): { described: Described | undefined; at: string[] } {
  const found = paths[path]?.[method]?.responses[status];
  if (found === undefined || !("$ref" in found)) {
    return { described: found, at: ["paths", path, method, "responses", status] };
  }
  const name = found.$ref.replace("#/components/responses/", "");
  return { described: components.responses[name], at: ["components", "responses", name] };
}
