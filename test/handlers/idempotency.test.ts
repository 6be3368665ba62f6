import { chmod, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { sha256 } from "../../host-agent/system/sha256.ts";
import { memoryKV } from "../../adapters/node/kv-memory.ts";
import { agentClient } from "../../handlers/agent-client.ts";
import { type Fetch, httpTransport } from "../../handlers/agent-transport.ts";
import { createApp } from "../../handlers/app.ts";
import type { KV } from "../../handlers/kv.ts";
import { startAgent } from "../../host-agent/agent.ts";
import { createServer } from "../../host-agent/door/server.ts";
import { until } from "../support/hub.ts";

const HOUR_MS = 3_600_000;

describe("an Idempotency-Key over time", () => {
  test("gives the same run for an hour, and a new run after it", async () => {
    await using world = await startWorld();
    const first = await world.launch("k");

    world.time += HOUR_MS - 5_000;
    expect((await world.launch("k")).runId).toBe(first.runId);
    world.time += 6_000;
    const second = await world.launch("k");
    expect(second).toMatchObject({ status: 201, replayed: false });
    expect(second.runId).not.toBe(first.runId);
    expect((await world.launch("k")).runId).toBe(second.runId);
    expect(new Set(await world.ledger())).toEqual(new Set([first.runId, second.runId]));
  });

  test("accepts another body after an hour, also when the KV still has the old one", async () => {
    const old = memoryKV({ now: () => 0 });
    await using world = await startWorld({ kv: old });
    const first = await world.launch("k");
    expect((await world.launch("k", "other")).status).toBe(422);
    world.time += HOUR_MS + 1_000;
    const second = await world.launch("k", "other");
    expect(second).toMatchObject({ status: 201, replayed: false });
    expect(second.runId).not.toBe(first.runId);
  });
});

/** Everything that a KV may do wrong. */
const TROUBLED: [string, () => KV][] = [
  ["forgets everything", () => ({ get: async () => undefined, put: async () => {} })],
  ["throws on every call", () => ({ get: () => fail(), put: () => fail() })],
  ["throws before it returns a promise", () => ({ get: failAtOnce, put: failAtOnce })],
  ["repeats its first answer forever", staleKV],
  ["returns another value than was put", () => ({ get: async () => '{"run":', put: async () => {} })],
  ["returns JSON of another shape", () => ({ get: async () => "null", put: async () => {} })],
];

describe("a KV in trouble", () => {
  test.for(TROUBLED)("that %s changes nothing: many launches start one run", async ([, trouble]) => {
    // Two edges, each with a KV of its own view, in front of one host.
    await using world = await startWorld({ kv: trouble() });
    const elsewhere = world.edge(trouble());
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => (index % 2 ? world.launch("k") : elsewhere("k"))),
    );
    answers.push(await world.launch("k"), await elsewhere("k"));

    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 201));
    expect(new Set(answers.map(({ runId }) => runId)).size).toBe(1);
    expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
    expect((await world.launch("k", "other")).status).toBe(422);
    expect(await world.ledger()).toEqual([answers[0]!.runId]);
  });

  test("that never answers delays a launch for a bounded time only, and starts no second run", async () => {
    await using world = await startWorld({ kv: { get: never, put: never } });
    const answers = await Promise.all([world.launch("k"), world.launch("k"), world.launch("k")]);
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201]);
    expect(await world.ledger()).toEqual([answers[0].runId]);
    expect(world.log.filter((entry) => entry["event"] === "kv_failed").length).toBeGreaterThan(0);
  });

  test("that remembers a run which does not exist on the host is ignored", async () => {
    const kv = memoryKV();
    await using before = await startWorld({ kv });
    const gone = await before.launch("k");
    await using after = await startWorld({ kv, scriptsOf: before.dir });
    const launched = await after.launch("k");
    expect(launched).toMatchObject({ status: 201, replayed: false });
    expect(launched.runId).not.toBe(gone.runId);
    expect((await after.launch("k")).runId).toBe(launched.runId);
  });
});

describe("a host that cannot be reached", () => {
  test("is replaced by the record in the KV, and the answer says that it is stale", async () => {
    await using world = await startWorld({ kv: memoryKV() });
    const first = await world.launch("k");
    await world.ledger();
    world.reachable = false;

    const again = await world.launch("k");
    expect(again).toMatchObject({ status: 201, runId: first.runId, replayed: true, stale: true });
    expect(await world.launch("unknown key")).toMatchObject({ status: 503, code: "agent_unavailable" });
    expect(await world.launch("k", "other")).toMatchObject({ status: 503, code: "agent_unavailable" });

    world.reachable = true;
    expect(await world.launch("k")).toMatchObject({ runId: first.runId, replayed: true, stale: false });
    expect(await world.launch("unknown key")).toMatchObject({ status: 201, replayed: false });
  });

  test("after it has launched does not lose the run: the client's retry finds it", async () => {
    await using world = await startWorld();
    world.lostAnswers = 2;
    expect(await world.launch("k")).toMatchObject({ status: 503, code: "agent_unavailable" });
    const retried = await world.launch("k");
    expect(retried).toMatchObject({ status: 201, replayed: true });
    expect(await world.ledger()).toEqual([retried.runId]);
  });

  test("after a launch without a key says that the run may have been started, and not just to try again", async () => {
    await using world = await startWorld();
    world.lostAnswers = 2;
    const lost = await world.launch(undefined);
    expect(lost).toMatchObject({ status: 503, code: "agent_unavailable" });
    expect(lost.detail).toContain("may have been started: look at the list of runs");
    expect(await world.ledger()).toHaveLength(1);
  });

  test("at the first attempt only gets a second attempt, which is the same launch also without a key", async () => {
    await using world = await startWorld();
    world.lostAnswers = 1;
    const launched = await world.launch(undefined);
    expect(launched.status).toBe(201);
    expect(await world.ledger()).toEqual([launched.runId]);
  });
});

/** The app over a real agent, with a clock, a KV and a wire that the test has in its hands. */
async function startWorld({ kv = memoryKV(), scriptsOf }: { kv?: KV; scriptsOf?: string } = {}) {
  const dir = await realpath(await mkdtemp(join(tmpdir(), "hub-")));
  await mkdir(join(dir, "scripts"));
  const script = join(scriptsOf ?? dir, "scripts", "job.sh");
  await writeFile(script, `#!/bin/sh\necho "$HUB_RUN_ID" >>"${dir}/ledger"\n`);
  await chmod(script, 0o755);
  const world = { time: Date.now(), reachable: true, lostAnswers: 0, dir };
  const log: Record<string, unknown>[] = [];
  const agent = await startAgent(
    {
      stateDir: join(dir, "state"),
      scriptRoots: [join(scriptsOf ?? dir, "scripts")],
      recipesFile: join(dir, "none.json"),
      maxRunning: 64,
      callbacks: { hosts: [], secrets: [] },
    },
    { PATH: process.env["PATH"] },
    () => {},
    () => world.time,
  );
  const serve = createServer(agent.operations, () => {});
  const wire: Fetch = async (request) => {
    if (!world.reachable) throw new TypeError("connection refused");
    const response = await serve(request);
    if (world.lostAnswers > 0) {
      world.lostAnswers--;
      throw new TypeError("connection reset");
    }
    return response;
  };

  function edge(edgeKV: KV) {
    const app = createApp({
      agent: agentClient(httpTransport({ url: "http://host-agent", fetch: wire })),
      kv: edgeKV,
      keys: () => ({ mode: "dev" }),
      digest: sha256,
      log: (entry) => log.push(entry),
      now: () => world.time,
    });
    return async (key: string | undefined, words = "") => {
      const response = await app.fetch(
        new Request("http://hub/api/v1/scripts/runs", {
          method: "POST",
          headers: {
            "content-type": "application/json",
            ...(key !== undefined && { "idempotency-key": key }),
          },
          body: JSON.stringify({ path: script, args: words }),
        }),
      );
      const json = (await response.json()) as { run_id?: string; code?: string; detail?: string };
      return {
        status: response.status,
        runId: json.run_id,
        code: json.code,
        detail: json.detail,
        replayed: response.headers.get("idempotent-replayed") === "true",
        stale: response.headers.get("hub-stale") === "true",
      };
    };
  }

  function allEnded(): Promise<true> {
    return until(async () => {
      const { runs } = await agent.operations.listRuns({ source: "script", status: "running", limit: 1 });
      return runs.length === 0 || undefined;
    });
  }

  return Object.assign(world, {
    log,
    edge,
    launch: edge(kv),
    /** The ids that the runs themselves have written, once all of them have ended. */
    async ledger(): Promise<string[]> {
      await allEnded();
      return (await readFile(join(dir, "ledger"), "utf8")).trim().split("\n");
    },
    async [Symbol.asyncDispose](): Promise<void> {
      await allEnded();
      await agent.close();
      await rm(dir, { recursive: true });
    },
  });
}

/** What it has once said of a key it says again, as Workers KV may for a minute: also that there is nothing. */
function staleKV(): KV {
  const { get, put } = memoryKV();
  const said = new Map<string, Promise<string | undefined>>();
  return {
    get(key) {
      const answer = said.get(key) ?? get(key);
      said.set(key, answer);
      return answer;
    },
    put,
  };
}

function never(): Promise<never> {
  return new Promise(() => {});
}

async function fail(): Promise<never> {
  throw new Error("the KV is down");
}

function failAtOnce(): never {
  throw new Error("the KV is down");
}
