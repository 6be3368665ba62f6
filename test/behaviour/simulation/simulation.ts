import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { vi } from "vitest";

import { sha256 } from "../../../host-agent/system/sha256.ts";
import { agentClient } from "../../../handlers/agent-client.ts";
import { httpTransport } from "../../../handlers/agent-transport.ts";
import { type Launched, launchOnce } from "../../../handlers/idempotency.ts";
import { auditOperations } from "../../../host-agent/audit/audit-operations.ts";
import { createOperations } from "../../../host-agent/operations.ts";
import { identify } from "../../../host-agent/executor/process-identity.ts";
import { ApiProblem } from "../../../host-agent/protocol/problem.ts";
import { IDEMPOTENCY_TTL_SECONDS } from "../../../host-agent/protocol/launch.ts";
import { type Source } from "../../../host-agent/protocol/run.ts";
import type { Recipes } from "../../../host-agent/catalogue/recipes.ts";
import type { CatalogueRecipe } from "../../../host-agent/catalogue/recipes-file.ts";
import { processPasses } from "../../../host-agent/executor/process-passes.ts";
import { sendSignalAs } from "../../../host-agent/executor/send-signal.ts";
import type { StartRun } from "../../../host-agent/executor/start-run.ts";
import { createRunFolder } from "../../../host-agent/executor/run-folder.ts";
import { localExecutor } from "../../../host-agent/executor/local.ts";
import type { Run } from "../../../host-agent/store/run.ts";
import { openRunStore, type RunStore } from "../../../host-agent/store/run-store.ts";
import { createRuns } from "../../../host-agent/runs/runs.ts";
import type { Scripts } from "../../../host-agent/catalogue/scripts.ts";
import { createServer } from "../../../host-agent/door/server.ts";
import type { FetchHandler as Fetch } from "../../../host-agent/system/http-listener.ts";
import { seededRandom, unreliableNamespace } from "../../support/unreliable-kv.ts";

const HOUR_MS = IDEMPOTENCY_TTL_SECONDS * 1000;
const SOURCES: Source[] = ["pipeline", "script"];
const TRIES = 60;

/** What is wrong with the product, to show that the simulation would see it. */
export interface Breakage {
  /** The store as the agent is given it. */
  store?(real: RunStore): RunStore;
  /** The wrapper starts its command whether or not it could claim the run. */
  wrapperIgnoresClaim?: boolean;
  /** The edges go by the KV alone when they choose the launch token. */
  tokenOfEdge?(key: string, edge: number): string;
}

/** What came of one schedule. */
export interface Outcome {
  violations: string[];
  /** How often what the schedules are made for did take place. */
  met: Record<
    "interrupted" | "adopted" | "replayed" | "stale" | "expired" | "lostAnswers" | "crashes",
    number
  >;
}

/** What a client wants: one launch, sent again until it is answered. */
interface Wish {
  source: Source;
  key: string | null;
  body: string;
}

/**
 * Plays one schedule, chosen by the seed: clients retry launches over several
 * edges with lagging KVs, the wire loses requests and answers, hours pass, and
 * the agent crashes between any two of its steps and is started again. Edge
 * and agent are the product's own, down to the claim of a run in its folder
 * below `dir`; only the command is none. Needs fake timers.
 */
export async function playSchedule(seed: number, dir: string, breakage: Breakage = {}): Promise<Outcome> {
  const random = seededRandom(seed);
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)]!;
  const chance = (share: number) => random() < share;
  const stateDir = join(dir, String(seed));
  mkdirSync(join(stateDir, "runs"), { recursive: true });
  const met: Outcome["met"] = {
    interrupted: 0,
    adopted: 0,
    replayed: 0,
    stale: 0,
    expired: 0,
    lostAnswers: 0,
    crashes: 0,
  };
  const violations: string[] = [];
  let time = 1_800_000_000_000;
  const now = () => time;
  const namespace = unreliableNamespace({ now, random, lossRate: 0.3 });

  /** All that could happen next. */
  let waiting: { resume: () => void; of: object | undefined }[] = [];
  function step(of?: object): Promise<void> {
    return new Promise((resume) => waiting.push({ resume, of }));
  }
  let actors = 0;
  function act(work: () => Promise<void>): void {
    actors++;
    work()
      .catch((error: unknown) => violations.push(`an actor failed: ${String(error)}`))
      .finally(() => actors--);
  }

  /** The runs whose command has been started, each time. */
  const executed: string[] = [];
  const disk = openRunStore(":memory:");
  const self = identify(process.pid)!;
  let incarnations = 0;
  let host: ReturnType<typeof boot> | undefined;

  /** An agent on the same disk; when it has crashed it takes no further step. */
  function boot() {
    const life = { alive: true, fetch: undefined as Fetch | undefined, died: Promise.withResolvers<never>() };
    life.died.promise.catch(() => {});
    const store = mortal(breakage.store?.(disk) ?? disk, life);
    const startRun: StartRun = async (_command, { folder, env }) => {
      await step(life);
      createRunFolder(folder);
      act(() => runWrapper(folder, env["HUB_RUN_ID"]!));
      await step(life);
      return { process: self, logFile: "" };
    };
    const runs = createRuns({
      store,
      recipes,
      scripts,
      executor: localExecutor({
        stateDir,
        env: {},
        runUser: undefined,
        // In one go: the order of all steps is the simulation's own.
        passes: processPasses(Number.POSITIVE_INFINITY),
        spawner: {
          startRun,
          sendSignalAs,
          onEvents() {},
          isParentOf: () => false,
          warmUp() {},
          async close() {},
        },
      }),
      sliceMs: Number.POSITIVE_INFINITY,
      signalLock: { hold: (work) => work(), close() {} },
      logDir: join(stateDir, "logs"),
      checkCallbackUrl: () => {},
      isAgentAlive: () => false,
      clock: () => ({ at: now(), uptime: now() }),
      maxRunning: 1_000,
      now,
      // No such process: an agent that has crashed is seen to be gone.
      self: { pid: 2 ** 30, startTime: String(++incarnations), bootId: self.bootId },
    });
    async function recoverAndServe(): Promise<void> {
      await runs.supervise();
      if (!life.alive) return;
      const operations = createOperations({
        runs,
        recipes,
        scripts,
        auditProblem: () => undefined,
        stateProblem: () => undefined,
      });
      life.fetch = createServer(
        auditOperations(operations, () => {}),
        () => {},
      );
    }
    return { life, runs, ready: recoverAndServe() };
  }

  /** What run.sh does, with the same claim. */
  async function runWrapper(folder: { started: string; exit: string }, runId: string): Promise<void> {
    await step();
    try {
      writeFileSync(folder.started, `${process.pid}\n`, { flag: "wx" });
    } catch {
      if (!breakage.wrapperIgnoresClaim) return;
    }
    executed.push(runId);
    writeFileSync(folder.exit, "  0\n", { flag: "r+" });
  }

  async function crash(): Promise<void> {
    if (!host) return;
    met.crashes++;
    const { life } = host;
    host = undefined;
    life.alive = false;
    life.died.reject(new TypeError("connection reset"));
    waiting = waiting.filter(({ of }) => of !== life);
    await step();
    const next = boot();
    await next.ready;
    host = next;
  }

  let faults = 6;
  const wire: Fetch = async (request) => {
    await step();
    if (!host?.life.fetch || (faults > 0 && chance(0.1) && faults--))
      throw new TypeError("connection refused");
    const { life } = host;
    const response = await Promise.race([life.fetch!(request), life.died.promise]);
    await step();
    if (faults > 0 && chance(0.2) && faults--) {
      met.lostAnswers++;
      throw new TypeError("connection reset");
    }
    return response;
  };
  const edges = Array.from({ length: 3 }, () => {
    const kv = namespace.location();
    return {
      agent: agentClient(httpTransport({ url: "http://host-agent", fetch: wire })),
      kv: {
        get: async (key: string) => (await step(), kv.get(key)),
        put: async (...args: Parameters<typeof kv.put>) => (await step(), kv.put(...args)),
      },
    };
  });

  const acknowledged: { wish: Wish; run: Launched["run"]; at: number }[] = [];
  async function client(wish: Wish): Promise<void> {
    let last: unknown;
    for (let tries = 0; tries < TRIES; tries++) {
      await step();
      const edge = Math.floor(random() * edges.length);
      const begun = time;
      const { source, key, body } = wish;
      const args = `${key} ${body}`;
      const key_name = "acme";
      const launch =
        source === "pipeline"
          ? { source, key_name, spec: { recipe_id: "job", args } }
          : { source, key_name, spec: { path: "/job.sh", args } };
      const token = key === null ? null : (breakage.tokenOfEdge?.(key, edge) ?? key);
      try {
        const { run, from } = await launchOnce(launch, token, {
          ...edges[edge]!,
          digest: sha256,
          now,
          onKvError: () => {},
        });
        met.replayed += Number(from !== "launch");
        met.stale += Number(from === "kv_stale");
        acknowledged.push({ wish, run, at: begun });
        return;
      } catch (error) {
        if (!(error instanceof ApiProblem)) throw error;
        if (error.code === "idempotency_key_reused" && wish.key !== null) return;
        last = `${error.message} (${String(error.extras.cause)})`;
        if (error.status < 500) throw error;
        // Without a key a client that has no answer must not ask again.
        if (wish.key === null) return;
      }
    }
    violations.push(`${wish.key}: never answered: ${String(last)}`);
  }

  host = boot();
  await host.ready;
  const keys = ["a", "b"].slice(0, 1 + Math.floor(random() * 2));
  for (let i = 0; i < 6; i++) {
    const source = chance(0.8) ? SOURCES[0]! : SOURCES[1]!;
    const key = chance(0.12) ? null : pick(keys);
    act(() => client({ source, key, body: key === null ? `only-${i}` : pick(["x", "x", "x", "y"]) }));
  }
  for (let i = Math.floor(random() * 4); i > 0; i--) act(async () => (await step(), crash()));
  for (let i = Math.floor(random() * 4); i > 0; i--) {
    act(async () => {
      await step();
      time += pick([500, 5_000, 61_000, HOUR_MS / 2, HOUR_MS + 1_000]);
    });
  }

  for (;;) {
    await quiet();
    if (waiting.length > 0) {
      const [next] = waiting.splice(Math.floor(random() * waiting.length), 1);
      next!.resume();
    } else if (actors === 0) break;
    else vi.advanceTimersToNextTimer();
  }
  await recover();
  judge();
  disk.close();
  rmSync(stateDir, { recursive: true });
  return { violations, met };

  /** After a last restart nothing may be left half done. */
  async function recover(): Promise<void> {
    host = boot();
    await host.ready;
    await host.runs.supervise();
  }

  function judge(): void {
    const runs = disk
      .list({ source: "pipeline", limit: 1_000 })
      .runs.concat(disk.list({ source: "script", limit: 1_000 }).runs);
    for (const runId of new Set(executed)) {
      const times = executed.filter((id) => id === runId).length;
      if (times > 1) violations.push(`${runId} was started ${times} times`);
    }
    for (const run of runs) {
      const hasRun = executed.includes(run.runId);
      const isInterrupted = run.status === "failed" && run.statusReason.startsWith("Launch interrupted");
      met.interrupted += Number(isInterrupted);
      // Its wrapper was found by its claim alone.
      met.adopted += Number(hasRun && run.process?.startTime === undefined);
      if (run.endedAt === undefined) violations.push(`${run.runId} is stuck: ${run.status}`);
      if (hasRun === isInterrupted)
        violations.push(`${run.runId} ran: ${hasRun}, but is ${run.statusReason}`);
    }
    // Of one key, and of one launch without a key: two runs that were started are an hour apart.
    const started = Map.groupBy(
      runs.filter((run) => executed.includes(run.runId)).toSorted((a, b) => a.startedAt - b.startedAt),
      (run) => `${run.source} ${wordsOf(run)[0] === "null" ? wordsOf(run)[1] : wordsOf(run)[0]}`,
    );
    for (const [what, sameRuns] of started) {
      for (const [i, run] of sameRuns.entries()) {
        const gap = run.startedAt - (sameRuns[i - 1]?.startedAt ?? -Infinity);
        met.expired += Number(gap !== Infinity);
        if (gap <= HOUR_MS) violations.push(`${what} was started again after ${gap} ms`);
      }
    }
    for (const { wish, run, at } of acknowledged) {
      if (!executed.includes(run.run_id))
        violations.push(`${run.run_id} was promised to ${wish.key} and never ran`);
      if (run.spec.args !== `${wish.key} ${wish.body}`)
        violations.push(`${wish.key} asked for ${wish.body} and got ${run.spec.args}`);
      if ((run.started_at + 1) * 1000 + HOUR_MS < at)
        violations.push(`${wish.key} got a run that was over an hour old`);
    }
  }
}

function wordsOf({ spec }: Run): string[] {
  return spec.args.split(" ");
}

const RECIPE: CatalogueRecipe = {
  recipe_id: "job",
  title: "Job",
  description: "",
  command: ["/bin/true"],
  cwd: "/",
  log_dir: undefined,
  env: {},
  terminal: false,
  params: [],
  error_markers: [],
};
const recipes = {
  current: async () => ({ recipes: new Map([["job", RECIPE]]), error_markers: [], faults: [] }),
} as unknown as Recipes;
const scripts = {
  approve: async (path: string) => ({
    path,
    folder: "/",
    name: "job",
    sha256: "",
    command: ["/bin/bash", path],
    fault: undefined,
    version: "",
  }),
  hasMarkersOff: () => false,
  isUnchanged: async () => true,
} as unknown as Scripts;

/** The store of an agent that may crash: then it reads and writes nothing more. */
function mortal(store: RunStore, life: { alive: boolean }): RunStore {
  return new Proxy(store, {
    get(target, name: keyof RunStore) {
      if (!life.alive) throw new Error("this agent has crashed");
      return target[name];
    },
  });
}

/** Resolves when nothing goes on but what waits for a step or a timer. */
async function quiet(): Promise<void> {
  for (let turns = 0; turns < 2; turns++) {
    await new Promise((resolve) => setImmediate(resolve));
    if (process.getActiveResourcesInfo().some((name) => /^(?:FS|FileHandle|CloseReq)/.test(name))) turns = -1;
  }
}
