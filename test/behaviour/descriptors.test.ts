import { execFileSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { Agent, type IncomingHttpHeaders, request } from "node:http";
import { join } from "node:path";

import { expect, test } from "vitest";

import { ALL, OTHER, startHub, until } from "../support/hub.ts";
import { childrenOf } from "../support/processes.ts";
import { serverProcess } from "../support/server-process.ts";

const SCRIPTS = "/api/v1/scripts";
const RUNS = `${SCRIPTS}/runs`;

interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  json: Record<string, unknown>;
}

/** Requests over one connection, which is open before the descriptors run out. */
function openConnection(url: string) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  return {
    ask: (method: string, path: string, { key = ALL.key, body }: { key?: string; body?: object } = {}) =>
      new Promise<Answer>((resolve, reject) => {
        const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
        const outgoing = request(url + path, { agent, method, headers }, (incoming) => {
          let text = "";
          incoming.on("data", (chunk) => (text += String(chunk)));
          incoming.on("end", () => {
            resolve({ status: incoming.statusCode!, headers: incoming.headers, json: JSON.parse(text) });
          });
        });
        outgoing.on("error", reject);
        outgoing.end(body && JSON.stringify(body));
      }),
    [Symbol.dispose]: () => agent.destroy(),
  };
}

test("a host without free file descriptors answers 503 with Retry-After, reports no live run as gone and misses no change of the keys", async () => {
  const pids: number[] = [];
  const deploy = serverProcess({ stopSignal: "SIGTERM", onStart: (pid) => pids.push(pid) });
  await using hub = await startHub({ deploy });
  const go = join(hub.dir, "go");
  const live = await hub.runScript("echo live; sleep 60");
  const over = await hub.runScript(`until test -e ${go}; do sleep 0.02; done; echo over; exit 3`);
  const path = await hub.script("more.sh", "true");
  using connection = openConnection(hub.url);
  expect((await connection.ask("GET", RUNS)).status).toBe(200);
  const hostAgent = [pids[0]!, ...childrenOf(pids[0]!)];
  const allow = (descriptors: number): void => {
    for (const pid of hostAgent) {
      execFileSync("prlimit", ["--pid", String(pid), `--nofile=${descriptors}:`]);
    }
  };

  allow(3);
  await writeFile(go, "");
  await writeFile(hub.keysFile, JSON.stringify({ keys: [OTHER] }));
  for (const [method, target, body] of [
    ["GET", `${RUNS}/${live.run_id}/logs`],
    ["GET", `${RUNS}/${live.run_id}`],
    ["GET", `${RUNS}/${over.run_id}`],
    ["GET", RUNS],
    ["GET", `${RUNS}?status=running`],
    ["POST", `${RUNS}/${live.run_id}/kill`],
    ["GET", SCRIPTS],
    ["GET", `${SCRIPTS}/content?path=${path}`],
    ["POST", RUNS, { path }],
    ["POST", "/api/v1/pipelines/runs", { recipe_id: "hello" }],
  ] as const) {
    const { status, headers, json } = await connection.ask(method, target, body && { body });
    expect({ status, code: json["code"] }, `${method} ${target}`).toEqual({
      status: 503,
      code: "host_unavailable",
    });
    expect(headers["retry-after"], `${method} ${target}`).toMatch(/^\d+$/);
  }
  await until(async () => {
    const { json } = await connection.ask("GET", "/healthz");
    return JSON.stringify(json).includes("last good keys") || undefined;
  });
  expect((await connection.ask("GET", RUNS, { key: "sk_never" })).status).toBe(401);

  allow(1_024);
  const withKey = { key: OTHER.key };
  await until(async () => (await hub.get(RUNS, { key: ALL.key })).status === 401 || undefined, 5_000);
  const { json } = await until(async () => {
    const answer = await hub.get(RUNS, withKey);
    return answer.json.runs.length === 2 && answer.json.runs[0].ended_at !== null ? answer : undefined;
  });
  expect(json.runs).toMatchObject([
    { run_id: over.run_id, status: "failed", exit_code: 3 },
    { run_id: live.run_id, status: "running", status_reason: "The process is alive." },
  ]);
  expect((await hub.get(`${RUNS}/${live.run_id}/logs`, withKey)).json.chunk).toBe("live\n");
});
