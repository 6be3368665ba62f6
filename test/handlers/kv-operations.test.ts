import { expect, test } from "vitest";

import { sha256 } from "../../host-agent/system/sha256.ts";
import { memoryKV } from "../../adapters/node/kv-memory.ts";
import { agentClient } from "../../handlers/agent-client.ts";
import { httpTransport } from "../../handlers/agent-transport.ts";
import { createApp } from "../../handlers/app.ts";
import { runRecord } from "../support/runs.ts";

const RUN = runRecord({ started_at: Math.floor(Date.now() / 1000), key_name: "dev" });

/** An edge with a KV that counts, before an agent that answers everything with one run. */
function countingEdge() {
  const kv = memoryKV();
  const count = { reads: 0, writes: 0, asked: 0 };
  const app = createApp({
    agent: agentClient(
      httpTransport({
        url: "http://host-agent",
        fetch: async (request) => {
          count.asked++;
          const isLaunch = request.method === "POST" && request.url.endsWith("/runs");
          return Response.json(isLaunch ? { run: RUN, replayed: false } : RUN);
        },
      }),
    ),
    kv: {
      get: (key) => (count.reads++, kv.get(key)),
      put: (...args) => (count.writes++, kv.put(...args)),
    },
    keys: () => ({ mode: "dev" }),
    digest: sha256,
    log: () => {},
    now: Date.now,
  });
  return async (method: string, path: string, headers: Record<string, string> = {}) => {
    Object.assign(count, { reads: 0, writes: 0, asked: 0 });
    const body = method === "POST" ? JSON.stringify(path.endsWith("/kill") ? {} : { path: "/job.sh" }) : null;
    const url = `http://hub/api/v1/scripts/runs${path}`;
    const all = { "content-type": "application/json", ...headers };
    const { status } = await app.fetch(new Request(url, { method, headers: all, body }));
    expect(status).toBeLessThan(300);
    return { ...count };
  };
}

test("what each request costs in KV operations and requests to the agent is what docs/scale.md says", async () => {
  const cost = countingEdge();
  const key = { "idempotency-key": "k" };
  expect(await cost("POST", "", key), "a launch with a key").toEqual({ reads: 1, writes: 1, asked: 1 });
  expect(await cost("POST", "", key), "its retry").toEqual({ reads: 1, writes: 0, asked: 1 });
  expect(await cost("POST", ""), "a launch without a key").toEqual({ reads: 0, writes: 0, asked: 1 });
  expect(await cost("GET", `/${RUN.run_id}`)).toEqual({ reads: 0, writes: 0, asked: 1 });
  expect(await cost("POST", `/${RUN.run_id}/kill`)).toEqual({ reads: 0, writes: 0, asked: 1 });
});
