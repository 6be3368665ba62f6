import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import { expect } from "vitest";

import type { Answer } from "./hub.ts";

/** JSON of any shape: tests look into it and fail if it is another. */
// eslint-disable-next-line typescript/no-explicit-any
export type AnyJson = any;

interface Document {
  paths: Record<string, Record<string, { responses: Record<string, { content?: Record<string, object> }> }>>;
}

const documents = new Map<string, Promise<Document>>();
const validators = new Map<string, ValidateFunction>();

/** The document that the deployment at `url` serves. */
export function servedDocument(url: string): Promise<Document> {
  const known = documents.get(url) ?? fetch(`${url}/openapi.json`).then((r) => r.json() as Promise<Document>);
  documents.set(url, known);
  return known;
}

/**
 * Reads an answer and holds it against the served document: the operation must
 * list the status and the content type, and the body must fit the schema.
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

  const document = await servedDocument(url);
  const { pathname } = new URL(path, url);
  const template = Object.keys(document.paths)
    .toSorted((a, b) => Number(a.includes("{")) - Number(b.includes("{")))
    .find((candidate) => new RegExp(`^${candidate.replaceAll(/\{\w+\}/g, "[^/]+")}/?$`).test(pathname));
  const operation = template && document.paths[template]?.[method.toLowerCase()];
  if (!operation || method === "HEAD") return answer;
  const described = operation.responses[String(response.status)];
  expect(
    described,
    `${method} ${template} documents ${response.status}: ${JSON.stringify(json)}`,
  ).toBeDefined();
  expect(Object.keys(described!.content ?? {}), `${method} ${template} ${response.status}`).toContain(type);
  if (!isJson) return answer;

  const pointer = [
    "paths",
    template,
    method.toLowerCase(),
    "responses",
    String(response.status),
    "content",
    type,
  ]
    .map((part) => part.replaceAll("~", "~0").replaceAll("/", "~1"))
    .join("/");
  const validate = validatorOf(document, pointer);
  expect(validate(json), `${pointer}: ${JSON.stringify(validate.errors)} in ${JSON.stringify(json)}`).toBe(
    true,
  );
  return answer;
}

function validatorOf(document: Document, pointer: string): ValidateFunction {
  const text = JSON.stringify(document);
  const key = `${text.length}#${pointer}`;
  const known = validators.get(key);
  if (known) return known;
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  ajv.addSchema(document, "openapi.json");
  const validate = ajv.compile({ $ref: `openapi.json#/${encodeURI(pointer)}/schema` });
  validators.set(key, validate);
  return validate;
}
