import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";

import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";

import { agentClient } from "../../handlers/agent-client.ts";
import { httpTransport } from "../../handlers/agent-transport.ts";
import { encodeReach } from "../../host-agent/protocol/reach.ts";
import { addressOf, close, listen } from "../../host-agent/system/http-listener.ts";
import { nodeRemote } from "../support/deployments.ts";
import { type Deploy, type Hub, nodeEmbedded, startHub, type TestKey, until } from "../support/hub.ts";

const RUNS = "/api/v1/scripts/runs";
const STAYS: TestKey = { name: "stays", key: "sk_test_stays_0123456789abcdef", scopes: ["*"] };
const TEAM: TestKey = { name: "team", key: "sk_test_team_0123456789abcdef", scopes: ["*"] };
/** A change of the keys is in force after this time. */
const PROMISED_MS = 1_000;
const FAR = "/nowhere/**";

/** Gives the key of the team these fields, and waits until they are in force. */
async function limitTeam(hub: Hub, fields: object): Promise<void> {
  writeFileSync(`${hub.keysFile}.draft`, JSON.stringify({ keys: [STAYS, { ...TEAM, ...fields }] }), {
    mode: 0o600,
  });
  renameSync(`${hub.keysFile}.draft`, hub.keysFile);
  // Requests that are held are looked at again once they have taken this long.
  await new Promise((resolve) => setTimeout(resolve, PROMISED_MS));
}

/** A Hub with two keys, and a script that holds until a file exists. */
function teamHub(deploy: Deploy) {
  let hub: Hub;
  let path: string;
  let go: string;
  beforeAll(async () => {
    hub = await startHub({ keys: [STAYS, TEAM], deploy });
    path = await hub.script("hold.sh", 'until test -e "$1"; do sleep 0.02; done; echo secret news');
  });
  beforeEach(async () => {
    go = join(hub.dir, `go${Math.random()}`);
    await limitTeam(hub, {});
  });
  afterAll(() => hub[Symbol.asyncDispose]());
  return {
    hub: () => hub,
    path: () => path,
    goFile: () => go,
    launch: (headers: Record<string, string> = {}) =>
      hub.post(RUNS, { path, args: go }, { key: TEAM.key, headers }),
  };
}

const team = { key: TEAM.key };

describe.for([
  ["the agent embedded", nodeEmbedded],
  ["a remote agent", nodeRemote],
] as const)("a key whose reach becomes smaller, with %s,", ([, deploy]) => {
  const world = teamHub(deploy);

  test("gets nothing of a run out of reach with a request that was waiting for it, and what is in reach as before", async () => {
    const { json: run } = await world.launch();
    const url = `${RUNS}/${run.run_id}`;
    const waiting = { headers: { prefer: "wait=20" } };
    const held = [
      world.hub().get(`${url}/logs?wait=20`, team),
      world.hub().get(url, { ...team, ...waiting }),
      world.hub().get(`${url}/logs?wait=20`, { ...team, headers: { accept: "text/plain" } }),
    ];
    const kept = world.hub().get(`${url}/logs?wait=20`, { key: STAYS.key });
    await until(async () => (await world.hub().get(url, team)).status === 200 || undefined);
    await limitTeam(world.hub(), { script_paths: [FAR] });
    writeFileSync(world.goFile(), "");
    for (const { status, json, bytes } of await Promise.all(held)) {
      expect({ status, code: json.code }).toEqual({ status: 404, code: "run_not_found" });
      expect(Buffer.from(bytes).toString()).not.toContain("secret news");
    }
    expect(await kept).toMatchObject({ status: 200, json: { chunk: "secret news\n" } });
  });
});

describe("a key whose reach changes", () => {
  const world = teamHub(nodeRemote);

  test("gets its log when the new reach has the run too", async () => {
    const { json: run } = await world.launch();
    const held = world.hub().get(`${RUNS}/${run.run_id}/logs?wait=20`, team);
    await limitTeam(world.hub(), { script_paths: [`${world.hub().root}/*.sh`], runs: "own" });
    writeFileSync(world.goFile(), "");
    expect(await held).toMatchObject({ status: 200, json: { chunk: "secret news\n" } });
  });

  test("learns the start but not the end of a launch that it waits for", async () => {
    const launched = world.launch({ prefer: "wait=20" });
    await until(async () => (await world.hub().get(`${RUNS}?status=running`, team)).json.runs[0]);
    await limitTeam(world.hub(), { script_paths: [FAR] });
    writeFileSync(world.goFile(), "");
    const { status, json, headers } = await launched;
    expect({ status, ended_at: json.ended_at }).toEqual({ status: 201, ended_at: null });
    expect(headers.get("preference-applied")).toBeNull();
    await world.hub().ended(json);
  });

  test("gets no replay of a launch, remembered by the edge or by the agent, and starts nothing", async () => {
    const headers = { "idempotency-key": world.goFile() };
    writeFileSync(world.goFile(), "");
    const { json: run } = await world.launch(headers);
    await world.hub().ended(run);
    await limitTeam(world.hub(), { script_paths: [FAR] });
    const before = (await world.hub().get(RUNS, { key: STAYS.key })).json.runs.length;

    const replayed = await world.launch(headers);
    const outside = await world.hub().post(RUNS, { path: "/elsewhere/x.sh" }, team);
    expect(replayed.json.code).toBe("path_forbidden");
    expect(replayed.json.detail).toBe(outside.json.detail);
    const other = await world
      .hub()
      .post("/api/v1/scripts/runs", { path: world.path(), args: "else" }, { ...team, headers });
    expect(other.json).toMatchObject({ code: "idempotency_key_reused" });
    expect(other.json.detail).not.toContain(run.run_id);
    expect((await world.hub().get(RUNS, { key: STAYS.key })).json.runs).toHaveLength(before);

    await limitTeam(world.hub(), { script_paths: [world.path()] });
    const again = await world.launch(headers);
    expect(again.headers.get("idempotent-replayed")).toBe("true");
    expect(again.json.run_id).toBe(run.run_id);
  });
});

test("a launch and a kill within a reach are in the audit log, and the log of the launch is in the index", async () => {
  const keys = [{ ...TEAM, runs: "own" }];
  await using hub = await startHub({ keys });
  const how = { key: TEAM.key };
  const { json: run } = await hub.post("/api/v1/pipelines/runs", { recipe_id: "hello" }, how);
  await hub.get(`/api/v1/pipelines/runs/${run.run_id}`, { ...how, headers: { prefer: "wait=20" } });
  await hub.post(`/api/v1/pipelines/runs/${run.run_id}/kill`, undefined, how);
  const lines = readFileSync(join(hub.stateDir, "audit.log"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  const ofRun = lines.filter((line) => line["run_id"] === run.run_id);
  expect(ofRun.map(({ event, key_name }) => [event, key_name])).toEqual([
    ["launch", "team"],
    ["kill", "team"],
  ]);
  expect(existsSync(join(hub.stateDir, "logs/by-run", `${run.run_id}.log`))).toBe(true);
});

/** An agent as of version 1.0.0, as far as it answers a route that it does not have. */
async function earlierAgent() {
  const targets: string[] = [];
  const server = createServer((request, response) => {
    targets.push(request.url!);
    const isKnown = request.url!.startsWith("/agent/v1/recipes");
    const detail = "The host-agent does not have this route. Is it another version?";
    response
      .writeHead(isKnown ? 200 : 404, { "content-type": "application/json" })
      .end(JSON.stringify(isKnown ? { recipes: [] } : { code: "route_not_found", detail }));
  });
  await listen(server, { host: "127.0.0.1", port: 0 });
  onTestFinished(() => close(server, 0));
  return { url: addressOf(server), targets };
}

test("an agent of an earlier version gets no call of a key with a reach that it could take for one without", async () => {
  const { url, targets } = await earlierAgent();
  const agent = agentClient(httpTransport({ url, fetch }));
  const reach = { recipes: ["a"] };
  const limited = agent.within(reach);
  const query = { source: "pipeline", limit: 1 } as const;
  const run = ["pipeline", "run_0123456789ab"] as const;
  for (const call of [
    () => limited.listRecipes(),
    () => limited.listScripts(),
    () => limited.readScript("/a.sh"),
    () => limited.listRuns(query),
    () => limited.getRun(...run),
    () => limited.readLog(...run, { after: 0, maxBytes: 1, waitSeconds: 0 }),
    () => limited.killRun(...run, { signal: "SIGTERM" }, { keyName: "k" }),
  ]) {
    await expect(call()).rejects.toMatchObject({
      code: "host_unavailable",
      status: 503,
      message: expect.stringContaining("earlier version"),
      extras: {
        cause: expect.objectContaining({ message: expect.stringContaining("does not have this route") }),
      },
    });
  }
  expect(targets.filter((target) => !target.startsWith(`/agent/v1/within/${encodeReach(reach)}/`))).toEqual(
    [],
  );
  expect(await agent.listRecipes()).toEqual({ recipes: [] });
});
