import { readdir } from "node:fs/promises";
import { join } from "node:path";

import { expect } from "vitest";

import { type Ask, type Hub } from "../../support/hub.ts";
import type { Answer } from "../../support/openapi-check.ts";

/** The two surfaces, as their paths name them. */
export const SURFACES = ["pipelines", "scripts"] as const;
/** A well-formed id of a run that does not exist. */
export const RUN = "run_a1b2c3d4e5f6";
/** Names that every object of the language has. */
export const PROTOTYPE_NAMES = ["__proto__", "constructor", "toString", "hasOwnProperty"];
/** Values that a field which takes a text must refuse. */
export const WRONG_TYPES: unknown[] = [null, 5, -1, 1.5, 1e308, true, [], ["x"], {}, { toString: "x" }];
/** Texts that would leave a folder if they became a path. */
export const TRAVERSALS = [
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
export interface Bad {
  names: string;
  method: "GET" | "POST";
  path: string;
  how?: Ask;
}

/** Sends each of these requests, expects each to be refused by name, and nothing to be started or written. */
export async function expectRefused(hub: Hub, bads: Iterable<Bad>): Promise<void> {
  const before = await footprint(hub);
  for (const bad of bads) expectRefusal(await hub.ask(bad.method, bad.path, bad.how), bad);
  expect(await footprint(hub), "nothing was started or written").toEqual(before);
}

/** The paths of all POST requests. */
export const POSTS = SURFACES.flatMap((surface) => [
  `/api/v1/${surface}/runs`,
  `/api/v1/${surface}/runs/${RUN}/kill`,
]);

/** A launch with this body that must be refused with this name. */
export function launch(surface: string, body: unknown, names: string): Bad {
  return { names, method: "POST", path: `/api/v1/${surface}/runs`, how: { body } };
}

/** A kill with this body that must be refused with this name. */
export function kill(surface: string, body: unknown, names: string): Bad {
  return { names, method: "POST", path: `/api/v1/${surface}/runs/${RUN}/kill`, how: { body } };
}

/** One request for each value of each parameter; each must be refused. */
export function queries(path: string, values: Record<string, string[]>): Bad[] {
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
