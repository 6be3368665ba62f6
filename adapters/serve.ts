import { mkdirSync } from "node:fs";
import { dirname } from "node:path";

import { agentClient } from "../handlers/agent-client.ts";
import { createApp } from "../handlers/app.ts";
import type { KeyRing } from "../handlers/auth.ts";
import { type Agent, startAgent } from "../host-agent/agent.ts";
import { ConfigError, type Env } from "../host-agent/config.ts";
import { folderAssets, PAGES_FOLDER } from "./assets-folder.ts";
import { isLoopback, type NodeConfig } from "./config.ts";
import { close, httpServer, listen } from "./http-server.ts";
import { openKeysFile, sha256 } from "./keys-file.ts";
import { memoryKV } from "./kv-memory.ts";
import { sqliteKV } from "./kv-sqlite.ts";

/** A server that listens. */
export interface Serving {
  url: string;
  mode: KeyRing["mode"];
  /** How many runs are alive on the host. */
  countAlive(): number;
  /** Takes no more requests, finishes those under way, and lets the runs go on. */
  stop(): Promise<void>;
}

const STOP_GRACE_MS = 3_000;

/**
 * Starts the whole product in this process: the API over HTTP with the
 * host-agent embedded. Throws ConfigError when a setting or a file forbids it.
 */
export async function serveNode(
  config: NodeConfig,
  env: Env,
  log: (entry: Record<string, unknown>) => void,
): Promise<Serving> {
  const keys = await guardedKeys(config);
  const { mode } = await keys();
  if (mode === "unavailable") {
    throw new ConfigError(
      `HUB_HOST: without API keys the Hub is open to everyone who can reach it, and ${config.host} is not loopback. ` +
        `Create a key with \`npm run keys -- create\`, or set HUB_ALLOW_OPEN=1 if that is what you want`,
    );
  }
  const agent = await startAgent(config.agent, env);
  const kv = openKV(config.kvFile);
  const app = createApp({
    agent: agentClient({ url: "http://host-agent", fetch: agent.fetch }),
    kv,
    keys,
    digest: sha256,
    log,
    now: Date.now,
    assets: folderAssets(PAGES_FOLDER),
  });
  const server = httpServer(app.fetch);
  try {
    const port = await listen(server, { host: config.host, port: config.port });
    const host = config.host.includes(":") ? `[${config.host}]` : config.host;
    return {
      url: `http://${host}:${port}`,
      mode,
      countAlive: agent.countAlive,
      async stop() {
        await close(server, STOP_GRACE_MS);
        await shutDown(agent, kv);
      },
    };
  } catch (error) {
    await shutDown(agent, kv);
    throw new ConfigError(
      `HUB_HOST, HUB_PORT: cannot listen on ${config.host} port ${config.port}: ${(error as Error).message}`,
    );
  }
}

async function shutDown(agent: Agent, kv: { close(): void }): Promise<void> {
  await agent.close();
  kv.close();
}

/** The keys of the file; where others can reach us, never dev mode unless that was allowed. */
async function guardedKeys({ keysFile, host, allowOpen }: NodeConfig): Promise<() => Promise<KeyRing>> {
  const keys = await openKeysFile(keysFile).catch((error: Error) => {
    throw new ConfigError(`HUB_KEYS_FILE: ${error.message}`);
  });
  if (allowOpen || isLoopback(host)) return keys;
  return async () => {
    const ring = await keys();
    return ring.mode === "dev" ? CLOSED : ring;
  };
}

const CLOSED: KeyRing = {
  mode: "unavailable",
  problem: "there are no API keys, and dev mode is for loopback only; nobody is let in",
};

function openKV(file: string | undefined) {
  if (file === undefined) return { ...memoryKV(), close() {} };
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  return sqliteKV(file);
}
