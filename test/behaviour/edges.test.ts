import { chmod, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { makeAgentKey, trustKey } from "../../adapters/keys/agent-pair.ts";
import { sha256 } from "../../host-agent/system/sha256.ts";
import { unixFetch } from "../../adapters/node/unix-fetch.ts";
import { agentClient } from "../../handlers/agent-client.ts";
import { httpTransport, type RemoteAgent } from "../../handlers/agent-transport.ts";
import { createApp } from "../../handlers/app.ts";
import type { KV } from "../../handlers/kv.ts";
import { startAgent } from "../../host-agent/agent.ts";
import { requestSigner } from "../../host-agent/protocol/signature.ts";
import { serveAgent } from "../../host-agent/serve-agent.ts";
import { createServer } from "../../host-agent/door/server.ts";
import { until } from "../support/hub.ts";
import { MAX_STALE_MS, seededRandom, unreliableNamespace } from "../support/unreliable-kv.ts";

const HOUR_MS = 3_600_000;
const LAUNCHES = 100;

type Surface = "pipelines" | "scripts";
const SURFACES: Surface[] = ["pipelines", "scripts"];
/** How the edges reach the one agent. */
type Way = "in process" | "through the signed door";
const WAYS: Way[] = ["in process", "through the signed door"];

describe("two edges before one agent, each with a KV that lags and loses entries", () => {
  test.for(WAYS)(
    "with %s, a hundred launches with one Idempotency-Key start one run on each surface",
    async (way) => {
      await using world = await startWorld(way);
      for (const surface of SURFACES) {
        const answers = await world.burst(() => world.anyEdge(surface, "k"));

        expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 201));
        expect(new Set(answers.map(({ runId }) => runId)).size).toBe(1);
        expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
      }
      const ledger = await world.ledger();
      expect(ledger.toSorted()).toEqual(["pipelines", "scripts"]);
    },
  );

  test.for(WAYS)(
    "with %s, of two bodies with one Idempotency-Key only one is launched and the other is always refused",
    async (way) => {
      await using world = await startWorld(way);
      for (const surface of SURFACES) {
        let turn = 0;
        const answers = await world.burst(() => world.anyEdge(surface, "k", `body${turn++ % 2}`));

        const launched = answers.filter(({ status }) => status === 201);
        expect(launched).toHaveLength(LAUNCHES / 2);
        expect(new Set(launched.map(({ runId, args }) => `${runId} ${args}`)).size).toBe(1);
        for (const refused of answers.filter(({ status }) => status !== 201)) {
          expect(refused).toMatchObject({ status: 422, code: "idempotency_key_reused" });
        }
      }
      expect(await world.ledger()).toHaveLength(2);
    },
  );

  test("with a KV that throws on every call, concurrent launches start one run, and every answer has it", async () => {
    await using world = await startWorld("in process", {
      get: () => Promise.reject(new Error("the KV is down")),
      put: () => Promise.reject(new Error("the KV is down")),
    });
    for (const surface of SURFACES) {
      const answers = await world.burst(() => world.anyEdge(surface, "k"));
      expect(new Set(answers.map(({ status, runId }) => `${status} ${runId}`)).size).toBe(1);
      expect(answers[0]!.status).toBe(201);
    }
    expect(await world.ledger()).toHaveLength(2);
  });

  test.for(WAYS)(
    "with %s, launches during repeated restarts of the agent start one run per Idempotency-Key",
    async (way) => {
      await using world = await startWorld(way);
      const keys = Array.from({ length: 10 }, (_, i) => `k${i}`);
      const over = new AbortController();
      const refused = new Set<string | undefined>();
      const clients = Promise.all(
        keys.flatMap((key, i) =>
          [0, 1].map(async () => {
            const surface = SURFACES[i % 2]!;
            const seen = new Set<string | undefined>();
            do {
              const answer = await world.anyEdge(surface, key, key);
              // Without a socket nothing here waits, and the agent would never come to stop.
              await new Promise((resolve) => setImmediate(resolve));
              if (answer.status === 201) seen.add(answer.runId);
              else refused.add(answer.code);
            } while (!over.signal.aborted || seen.size === 0);
            return [key, ...seen] as const;
          }),
        ),
      );
      for (let restart = 0; restart < 3; restart++) {
        await world.allEnded();
        await world.restart();
      }
      over.abort();

      for (const [, ...runIds] of await clients) expect(runIds).toHaveLength(1);
      for (const code of refused) expect(code).toMatch(/^agent_/);
      expect((await world.ledger()).toSorted()).toEqual(
        keys.map((key, i) => `${SURFACES[i % 2]} ${key}`).toSorted(),
      );
    },
  );

  test("an Idempotency-Key returns its run after a restart, at either edge and at any time within the hour", async () => {
    await using world = await startWorld("in process");
    const random = seededRandom(1);
    const first = await world.anyEdge("scripts", "k");
    await world.restart();
    for (const begin = world.time; ;) {
      const elapsed = (world.time += Math.floor((random() * MAX_STALE_MS) / 2)) - begin;
      if (elapsed >= HOUR_MS - 1_000) break;
      expect(await world.anyEdge("scripts", "k")).toMatchObject({
        status: 201,
        runId: first.runId,
        replayed: true,
      });
    }
    // Behind the hour no edge may go on with what it read before.
    world.time += MAX_STALE_MS;
    const answers = await world.burst(() => world.anyEdge("scripts", "k"));
    expect(new Set(answers.map(({ runId }) => runId)).size).toBe(1);
    expect(answers[0]!.runId).not.toBe(first.runId);
    expect(await world.ledger()).toHaveLength(2);
    expect(world.kv.stale, "the edges did read what was out of date").toBeGreaterThan(0);
  });
});

/** Two edges before one agent, with a clock in the test's hands; `secondKV` in place of the second edge's own. */
async function startWorld(way: Way, secondKV?: KV) {
  const dir = await realpath(await mkdtemp(join(tmpdir(), "hub-")));
  const script = join(dir, "job.sh");
  const ledger = join(dir, "ledger");
  await mkdir(join(dir, "state"), { mode: 0o700 });
  await writeFile(ledger, "");
  await writeFile(script, `#!/bin/sh\nsurface=$1\nshift\necho "$surface" "$@" >>"${ledger}"\n`);
  await chmod(script, 0o755);
  const recipe = { recipe_id: "job", title: "Job", description: "Notes that it ran", command: [script] };
  await writeFile(join(dir, "recipes.json"), JSON.stringify({ recipes: [recipe] }));
  const config = {
    stateDir: join(dir, "state"),
    scriptRoots: [dir],
    recipesFile: join(dir, "recipes.json"),
    maxRunning: 1_000,
    callbacks: { hosts: [], secrets: [] },
  };
  const world = { time: Date.now() };
  const now = () => world.time;
  const random = seededRandom(7);
  const namespace = unreliableNamespace({ now, random, lossRate: 0.3 });

  const start = () => startAgent(config, { PATH: process.env["PATH"] }, () => {}, now);
  const host = await (way === "in process" ? holdAgent() : openDoor());

  async function holdAgent() {
    let agent: Awaited<ReturnType<typeof start>> | undefined = await start();
    let serving = 0;
    const options: RemoteAgent = {
      url: "http://host-agent",
      fetch: async (request) => {
        if (!agent) throw new TypeError("connection refused");
        serving++;
        return createServer(agent.operations, () => {})(request).finally(() => serving--);
      },
    };
    const stop = async () => {
      const stopping = agent;
      agent = undefined;
      // As the real one does: requests under way are finished.
      await until(() => serving === 0 || undefined);
      await stopping?.close();
    };
    return { options, stop, start: async () => void (agent = await start()) };
  }

  async function openDoor() {
    const key = await makeAgentKey();
    const { d: _secret, ...publicKey } = key;
    const [path, trustFile] = [join(dir, "agent.sock"), join(dir, "trusted_keys.json")];
    trustKey(trustFile, publicKey);
    const serve = () =>
      serveAgent(
        { agent: config, name: "host-agent", listen: { path }, trustFile },
        { PATH: process.env["PATH"] },
        () => {},
      );
    let agent = await serve();
    const sign = await requestSigner(key, "host-agent");
    const options: RemoteAgent = { url: "http://host-agent", fetch: unixFetch(path), sign };
    return { options, stop: () => agent.stop(), start: async () => void (agent = await serve()) };
  }

  /** A separate edge, with the KV namespace as its location sees it. */
  function edge(kv: KV) {
    return createApp({
      agent: agentClient(httpTransport(host.options)),
      kv,
      keys: () => ({ mode: "dev" }),
      digest: sha256,
      log: () => {},
      now,
    });
  }
  const edges = [edge(namespace.location()), edge(secondKV ?? namespace.location())];
  let asked = 0;
  let underWay = 0;

  async function launch(app: (typeof edges)[number], surface: Surface, key: string, words = "") {
    const args = `${surface} ${words}`;
    underWay++;
    const response = await app.fetch(
      new Request(`http://hub/api/v1/${surface}/runs`, {
        method: "POST",
        headers: { "content-type": "application/json", "idempotency-key": key },
        body: JSON.stringify(surface === "scripts" ? { path: script, args } : { recipe_id: "job", args }),
      }),
    );
    underWay--;
    const json = (await response.json()) as { run_id?: string; code?: string; spec?: { args: string } };
    return {
      status: response.status,
      runId: json.run_id,
      args: json.spec?.args,
      code: json.code,
      replayed: response.headers.get("idempotent-replayed") === "true",
    };
  }

  const whole = Object.assign(world, {
    kv: namespace.count,
    /** Launches at one edge after the other. */
    anyEdge: (surface: Surface, key: string, words?: string) =>
      launch(edges[asked++ % edges.length]!, surface, key, words),
    burst: <T>(work: () => Promise<T>): Promise<T[]> =>
      Promise.all(Array.from({ length: LAUNCHES }, () => work())),
    /** A few launches have been answered since, or all that there were. */
    async allEnded(): Promise<void> {
      const before = asked;
      await until(() => underWay === 0 || asked > before + 20 || undefined);
    },
    async restart(): Promise<void> {
      await host.stop();
      await host.start();
    },
    /** What the runs themselves have written, once all of them have ended. */
    async ledger(): Promise<string[]> {
      await allEnded();
      return (await readFile(ledger, "utf8")).trim().split("\n");
    },
    async [Symbol.asyncDispose](): Promise<void> {
      await allEnded();
      await host.stop();
      await rm(dir, { recursive: true });
    },
  });

  function allEnded(): Promise<true> {
    const { listRuns } = agentClient(httpTransport(host.options));
    return until(async () => {
      const alive = await Promise.all(
        (["pipeline", "script"] as const).map((source) => listRuns({ source, status: "running", limit: 1 })),
      );
      return alive.every(({ runs }) => runs.length === 0) || undefined;
    });
  }

  return whole;
}
