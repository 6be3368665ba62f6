import type { Readable } from "node:stream";

import { Miniflare, type WorkerOptions } from "miniflare";

import type { PrivateKey } from "../../host-agent/protocol/signature.ts";
import { PAGES_FOLDER } from "../node/assets-folder.ts";
import { KEYS_KV_KEY } from "../workers/keys-kv.ts";
import { bundleWorker } from "./bundle-worker.ts";

/** The date and flags of wrangler.toml. The date is not later than that of the installed workerd. */
const COMPATIBILITY_DATE = "2026-07-30";
const COMPATIBILITY_FLAGS = ["enable_request_signal"];
/** The binding of the KV, and its name when no other KV is in the same workerd. */
export const KV = "HUB_KV";

/** The settings of one deployment of the Worker. */
export interface WorkerSettings {
  /** Where the agent answers: http://host:port. */
  agentUrl: string;
  agentKey: PrivateKey;
  agentName: string;
  devMode: boolean;
  /** HUB_RATE_PER_KEY and HUB_FAILED_AUTH_PER_MINUTE, if they differ from the defaults. */
  rates?: Record<string, string>;
}

/** The settings, and where workerd serves. */
export interface WorkerdOptions extends WorkerSettings {
  host: string;
  /** 0 for any free port. */
  port: number;
  /** The folder of the KV. */
  kvFolder: string;
  /** Receives each line that the Worker logs. */
  onLog?: (line: string) => void;
}

/** The Worker in a real workerd on this machine, with its own KV. */
export interface Workerd {
  url: string;
  putKeys(text: string): Promise<void>;
  stop(): Promise<void>;
}

/** Bundles the Worker and runs it, offline. Rejects when the port is taken. */
export async function startWorkerd(options: WorkerdOptions): Promise<Workerd> {
  const { onLog = () => {} } = options;
  const workerd = new Miniflare({
    ...(await workerOptions(options)),
    host: options.host,
    port: options.port,
    // Without this it would ask the network for the content of Request.cf.
    cf: false,
    kvPersist: options.kvFolder,
    handleRuntimeStdio(stdout: Readable, stderr: Readable) {
      for (const stream of [stdout, stderr]) stream.on("data", (data) => onLog(String(data)));
    },
  });
  const url = await workerd.ready;
  const kv = await workerd.getKVNamespace(KV);
  return {
    url: url.origin,
    putKeys: (text) => kv.put(KEYS_KV_KEY, text),
    stop: () => workerd.dispose(),
  };
}

/**
 * The keys in the KV of this folder, and `first` put into it where it has none. Before the Worker listens: it
 * remembers for a while that there were no keys.
 */
export async function keysBeforeStart(kvFolder: string, first: () => string): Promise<string> {
  const store = new Miniflare({
    modules: true,
    script: "export default { fetch: () => new Response(null, { status: 503 }) }",
    host: "127.0.0.1",
    port: 0,
    cf: false,
    kvNamespaces: { [KV]: KV },
    kvPersist: kvFolder,
  });
  try {
    const kv = await store.getKVNamespace(KV);
    const text = (await kv.get(KEYS_KV_KEY, "text")) ?? first();
    await kv.put(KEYS_KV_KEY, text);
    return text;
  } finally {
    await store.dispose();
  }
}

/** The bundled Worker with its bindings; `kvId` distinguishes its KV from those of others in the same workerd. */
export async function workerOptions(
  { agentUrl, agentKey, agentName, devMode, rates }: WorkerSettings,
  kvId: string = KV,
): Promise<WorkerOptions> {
  return {
    modules: [{ type: "ESModule", path: "worker.js", contents: await bundleWorker() }],
    compatibilityDate: COMPATIBILITY_DATE,
    compatibilityFlags: COMPATIBILITY_FLAGS,
    kvNamespaces: { [KV]: kvId },
    bindings: {
      HUB_AGENT_URL: agentUrl,
      HUB_AGENT_KEY: JSON.stringify(agentKey),
      HUB_AGENT_NAME: agentName,
      HUB_DEV_MODE: devMode ? "1" : "0",
      ...rates,
    },
    serviceBindings: { HUB_ASSETS: { disk: { path: PAGES_FOLDER } } },
  };
}
