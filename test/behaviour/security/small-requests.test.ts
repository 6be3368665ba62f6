import { afterAll, beforeAll, expect, test } from "vitest";

import { nodeRemote } from "../../support/deployments.ts";
import { ALL, type Hub, OTHER, startHub } from "../../support/hub.ts";

const RUNS = "/api/v1/pipelines/runs";
const MAX_ANSWER_BYTES = 65_536;

/** A recipe with as many parameters as a recipe may have, whose names every complaint would list. */
const WIDE = {
  recipe_id: "wide",
  title: "Wide",
  description: "Has many parameters",
  command: ["true"],
  params: [
    ...Array.from({ length: 99 }, (_, i) => ({ name: `${"p".repeat(50)}${i}`, type: "string" })),
    { name: "one", type: "enum", enum: Array.from({ length: 200 }, (_, i) => "v".repeat(4_000) + i) },
  ],
};

let hub: Hub;
beforeAll(async () => {
  hub = await startHub({ recipes: [WIDE] });
});
afterAll(() => hub[Symbol.asyncDispose]());

const many = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [i, 1]));

test.for([
  ["thousands of unknown parameters", RUNS, { recipe_id: "wide", params: many(7_000) }],
  ["thousands of unknown fields", RUNS, { recipe_id: "wide", ...many(7_000) }],
  ["a value outside a long list of values", RUNS, { recipe_id: "wide", params: { one: "x" } }],
  ["an order of a kill with thousands of fields", `${RUNS}/run_a1b2c3d4e5f6/kill`, many(7_000)],
] as const)("the answer to %s is short", async ([, path, body]) => {
  const { status, bytes, json } = await hub.post(path, body);
  expect(status).toBe(422);
  expect(bytes.length).toBeLessThan(MAX_ANSWER_BYTES);
  expect(json.errors.length).toBeLessThanOrEqual(20);
});

test("the answer to thousands of query parameters is short", async () => {
  const query = Array.from({ length: 1_900 }, (_, i) => `${i}=1`).join("&");
  const { status, bytes } = await hub.get(`${RUNS}?${query}`);
  expect(status).toBe(422);
  expect(bytes.length).toBeLessThan(MAX_ANSWER_BYTES);
});

test("one key takes at most half of the waiting requests of a remote agent", async () => {
  await using own = await startHub({ deploy: nodeRemote });
  const run = await own.runScript("exec sleep 100");
  const log = `/api/v1/scripts/runs/${run.run_id}/logs?wait=30`;
  const hangUp = new AbortController();
  const headers = { authorization: `Bearer ${ALL.key}` };
  const statuses = Array.from({ length: 251 }, () =>
    fetch(own.url + log, { headers, signal: hangUp.signal }).then(
      ({ status }) => status,
      () => undefined,
    ),
  );
  expect(await Promise.race(statuses), "the first that is answered is the one too many").toBe(429);
  const other = own.get(log, { key: OTHER.key });
  expect((await own.get(log.replace("wait=30", "wait=0"))).status).toBe(200);
  await own.kill(run);
  expect((await other).status).toBe(200);
  hangUp.abort();
  await Promise.all(statuses);
}, 90_000);
