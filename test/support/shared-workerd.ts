import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { isDeepStrictEqual } from "node:util";

import { Miniflare } from "miniflare";

import { makeAgentKey } from "../../adapters/keys/agent-pair.ts";
import { workerOptions } from "../../adapters/edge/workerd.ts";
import { KEYS_KV_KEY } from "../../adapters/workers/keys-kv.ts";
import type { PrivateKey } from "../../host-agent/protocol/signature.ts";
import { edgeSettings, startAgentHere, workerd } from "./deployments.ts";
import { frontDoor } from "./front-door.ts";
import type { Deploy } from "./hub.ts";

/** A start of workerd costs as much as several more Workers in one that starts; each takes 10 MB. */
const WORKERS = 12;
/** What the Hubs of most tests are set up with; another gets a separate workerd. */
const USUAL = { devMode: false, rates: { HUB_FAILED_AUTH_PER_MINUTE: "0" } };

type Batch = Awaited<ReturnType<typeof startBatch>>;
type BatchWorker = Batch["unused"][number];

/**
 * The same as `workerd`, for a file of many tests: Hubs share the process of
 * workerd, and nothing else in it. Each gets a Worker that nobody has called
 * yet, with a separate isolate, bindings, port and KV. A Hub that is started
 * again gets the next one, which finds in KV what the one before left there.
 */
export async function sharedWorkerd() {
  const agentKey = await makeAgentKey();
  const lastOf = new Map<string, BatchWorker>();
  let batches: Batch[] = [];

  async function freshWorker(): Promise<BatchWorker> {
    const worker = batches.at(-1)?.unused.pop();
    if (worker) return worker;
    const done = batches.filter(({ inUse }) => inUse.size === 0);
    batches = [...batches.filter((batch) => !done.includes(batch)), await startBatch(agentKey)];
    await Promise.all(done.map((batch) => batch.stop()));
    return freshWorker();
  }

  const deploy: Deploy = async (setup) => {
    const { keys, ...settings } = edgeSettings(setup);
    if (!isDeepStrictEqual(settings, USUAL)) return workerd(setup);
    const agent = await startAgentHere(setup, "127.0.0.1:0", agentKey);
    const left = (await lastOf.get(setup.dir)?.readKV()) ?? [];
    const worker = await freshWorker();
    lastOf.set(setup.dir, worker);
    await worker.use(agent.url, [...left, { name: KEYS_KV_KEY, value: keys }]);
    return {
      url: worker.url,
      async stop() {
        worker.leave();
        await agent.stop();
      },
    };
  };
  return { deploy, stop: () => Promise.all(batches.map((batch) => batch.stop())) };
}

const KEEPER = "keeper";
/** A Worker that has the KV of each of the others: the way there through Miniflare's proxies stops this process meanwhile. */
const KEEPER_SCRIPT = `export default {
  async fetch(request, env) {
    const { name, entries } = await request.json();
    const kv = env[name];
    for (const { name: key, value, expiration } of entries) await kv.put(key, value, { expiration });
    const { keys } = await kv.list();
    return Response.json(await Promise.all(keys.map(async (key) => ({ ...key, value: await kv.get(key.name) }))));
  },
};`;

interface Entry {
  name: string;
  value: string;
  /** Epoch seconds. */
  expiration?: number | undefined;
}

/** Starts a workerd with Workers that wait for a Hub each. */
async function startBatch(agentKey: PrivateKey) {
  const kvFolder = await mkdtemp(join(tmpdir(), "hub-workerd-"));
  const names = Array.from({ length: WORKERS }, (_, i) => `hub-${i}`);
  const agentUrls = new Map<string, URL>();
  // A Worker is bound to an address before its agent has one.
  const doors = await Promise.all(names.map((name) => frontDoor(() => agentUrls.get(name)!)));
  const workers = await Promise.all(
    names.map(async (name, i) => {
      const settings = { agentUrl: doors[i]!.url, agentKey, agentName: "host-agent", ...USUAL };
      const options = await workerOptions(settings, name);
      return { ...options, name, unsafeDirectSockets: [{ host: "127.0.0.1", port: 0 }] };
    }),
  );
  const keeper = {
    name: KEEPER,
    modules: true as const,
    script: KEEPER_SCRIPT,
    kvNamespaces: names,
    unsafeDirectSockets: [{ host: "127.0.0.1", port: 0 }],
  };
  const miniflare = new Miniflare({
    cf: false,
    kvPersist: kvFolder,
    handleRuntimeStdio: drain,
    workers: [...workers, keeper],
  });
  await miniflare.ready;
  const keeperUrl = await miniflare.unsafeGetDirectURL(KEEPER);
  /** Puts entries into the KV of a Worker, and tells all that is in it then. */
  async function kvOf(name: string, entries: Entry[]): Promise<Entry[]> {
    const response = await fetch(keeperUrl, { method: "POST", body: JSON.stringify({ name, entries }) });
    if (!response.ok) throw new Error(`the KV of ${name}: ${response.status} ${await response.text()}`);
    return (await response.json()) as Entry[];
  }
  const inUse = new Set<string>();
  const unused = await Promise.all(
    names.map(async (name) => ({
      url: (await miniflare.unsafeGetDirectURL(name)).origin,
      async use(agentUrl: string, entries: Entry[]): Promise<void> {
        inUse.add(name);
        agentUrls.set(name, new URL(agentUrl));
        await kvOf(name, entries);
      },
      readKV: () => kvOf(name, []),
      leave: () => void inUse.delete(name),
    })),
  );
  return {
    unused,
    inUse,
    async stop(): Promise<void> {
      await miniflare.dispose();
      await Promise.all(doors.map((door) => door.close()));
      await rm(kvFolder, { recursive: true, force: true });
    },
  };
}

/** What nobody reads would stop workerd as soon as the pipe is full. */
function drain(...streams: Readable[]): void {
  for (const stream of streams) stream.resume();
}
