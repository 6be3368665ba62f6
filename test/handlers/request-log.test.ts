import { createHash } from "node:crypto";

import { expect, test } from "vitest";

import { readNodeConfig } from "../../adapters/node/config.ts";
import { serveNode } from "../../adapters/node/serve.ts";
import { remoteEnv, startAgentProcess } from "../support/deployments.ts";
import { ALL, type Deploy, startHub } from "../support/hub.ts";

test("every request is one log entry with its caller and route, and without key, token or argument", async () => {
  const { entries, deploy } = logged();
  await using hub = await startHub({ deploy });
  const secrets = ["sk_test_wrong_key", "argument-secret", "idempotency-secret", "query-secret"];
  const answers = [
    await hub.post(
      "/api/v1/pipelines/runs",
      { recipe_id: "hello", args: secrets[1] },
      { headers: { "idempotency-key": secrets[2]! } },
    ),
    await hub.get("/api/v1/scripts", { key: secrets[0]! }),
    await hub.get("/api/v1/scripts", { key: null, headers: { authorization: `Basic ${ALL.key}` } }),
    await hub.get(`/api/v1/scripts?key=${secrets[3]}`),
    await hub.get(`/api/v1/scripts/content?path=/${secrets[3]}.sh`),
    await hub.get(`/${secrets[3]}`, { headers: { "x-request-id": "my-own-id" } }),
  ];

  const requests = entries.filter(({ event, route }) => event === "request" && route !== "/openapi.json");
  const told = requests.filter(({ request_id }) =>
    answers.some(({ headers }) => headers.get("x-request-id") === request_id),
  );
  expect(
    told.map(({ method, route, status, key_name, code }) => ({ method, route, status, key_name, code })),
  ).toEqual([
    { method: "POST", route: "/api/v1/pipelines/runs", status: 201, key_name: ALL.name, code: undefined },
    { method: "GET", route: "/api/v1/scripts", status: 401, key_name: null, code: "unauthenticated" },
    { method: "GET", route: "/api/v1/scripts", status: 401, key_name: null, code: "unauthenticated" },
    { method: "GET", route: "/api/v1/scripts", status: 422, key_name: ALL.name, code: "invalid_request" },
    {
      method: "GET",
      route: "/api/v1/scripts/content",
      status: 403,
      key_name: ALL.name,
      code: "path_forbidden",
    },
    { method: "GET", route: null, status: 404, key_name: null, code: "route_not_found" },
  ]);
  for (const { ms } of told) expect(ms).toBeGreaterThanOrEqual(0);
  const text = JSON.stringify(entries);
  for (const secret of [...secrets, ALL.key]) expect(text).not.toContain(secret);
  for (const { bytes, headers } of answers.slice(1)) {
    expect(Buffer.from(bytes).toString() + JSON.stringify([...headers])).not.toContain(ALL.key);
  }
  await hub.ended(answers[0]!.json);
});

test("a line of the request log names its run and the client's address, so that logs can be joined", async () => {
  const { entries, deploy } = logged();
  await using hub = await startHub({ deploy });
  const { json: run } = await hub.post("/api/v1/pipelines/runs", { recipe_id: "hello" });
  await hub.ended(run);
  await hub.get(`/api/v1/pipelines/runs/${run.run_id}/logs`);
  await hub.get("/api/v1/pipelines/runs/not%0aa-run");
  await hub.get("/api/v1/pipelines/runs");

  const lineOf = (wanted: string, method = "GET") =>
    entries.findLast(({ route, method: used }) => route === wanted && used === method);
  const runs = "/api/v1/pipelines/runs";
  expect(lineOf(runs, "POST")).toMatchObject({ run_id: run.run_id, address: "127.0.0.1" });
  expect(lineOf(`${runs}/:run_id/logs`)).toMatchObject({ run_id: run.run_id, address: "127.0.0.1" });
  expect(lineOf(`${runs}/:run_id`), "what is not a run id is not logged").not.toHaveProperty("run_id");
  expect(lineOf(runs)).not.toHaveProperty("run_id");
});

test("in dev mode the request log shows it", async () => {
  const { entries, deploy } = logged();
  await using hub = await startHub({ deploy, keys: [] });
  await hub.get("/api/v1/scripts");
  expect(entries.find(({ route }) => route === "/api/v1/scripts")).toMatchObject({
    auth: "dev",
    key_name: "dev",
  });
});

test("a replay that a remote agent has not seen is in the log with its run and request", async () => {
  const { entries, deploy } = logged();
  await using hub = await startHub({
    deploy: async (setup) => {
      const agent = await startAgentProcess(setup);
      const edge = await deploy({ ...setup, env: remoteEnv(setup, agent.url) });
      return {
        ...edge,
        async stop() {
          await edge.stop();
          await agent.stop();
        },
      };
    },
  });
  const launch = () =>
    hub.post("/api/v1/pipelines/runs", { recipe_id: "hello" }, { headers: { "idempotency-key": "one" } });
  const { json } = await launch();
  const replayed = await launch();

  expect(replayed.headers.get("idempotent-replayed")).toBe("true");
  expect(entries.filter(({ event }) => event === "replay")).toEqual([
    {
      level: "info",
      event: "replay",
      outcome: "replayed",
      source: "pipeline",
      key_name: ALL.name,
      request_id: replayed.headers.get("x-request-id"),
      run_id: json.run_id,
      argv_sha256: createHash("sha256").update(json.cmd).digest("hex"),
    },
  ]);
  await hub.ended(json);
});

/** Node with the agent embedded, if none is named, and the entries of its log. */
function logged() {
  const entries: Record<string, unknown>[] = [];
  const deploy: Deploy = async ({ env }) => {
    const serving = await serveNode(readNodeConfig({ ...env, HUB_PORT: "0" }), env, (entry) =>
      entries.push(entry),
    );
    return { url: serving.url, stop: () => serving.stop() };
  };
  return { entries, deploy };
}
