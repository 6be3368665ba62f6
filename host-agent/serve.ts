import type { Server } from "node:http";
import { dirname, join } from "node:path";

import { type Agent, startAgent } from "./agent.ts";
import { ConfigError, type DoorConfig, type Env } from "./config.ts";
import { createDoor } from "./door.ts";
import { close, httpServer, type HttpBounds, listen } from "./http-listener.ts";
import type { Log } from "./log-lines.ts";
import { makeFolder } from "./make-folder.ts";
import { openNonceMemory } from "./nonce-memory.ts";
import { openTrustedKeys } from "./trusted-keys.ts";
import { createServer } from "./server.ts";
import { freeSocketPath } from "./unix-socket.ts";

/** Tight: only our own edges have any business here. */
const BOUNDS: HttpBounds = {
  headersTimeoutMs: 5_000,
  requestTimeoutMs: 15_000,
  keepAliveTimeoutMs: 65_000,
  maxHeaderBytes: 16_384,
  maxConnections: 4_096,
};
const STOP_GRACE_MS = 3_000;

/** An agent that listens. */
export interface ServingAgent {
  /** Where, in the form of HUB_AGENT_URL. */
  url: string;
  keyIds: string[];
  /** What is wrong with the recipes file now, in a sentence; undefined when all is well. */
  recipesProblem(): Promise<string | undefined>;
  /** How many runs are alive, after a look at each. */
  countAlive(): Promise<number>;
  /** Takes no more requests, finishes those under way, and lets the runs go on. */
  stop(): Promise<void>;
}

/** Starts an agent behind its door; `now` is the clock of its runs, not of the door. Throws ConfigError when a setting or a file forbids it. */
export async function serveAgent(
  { agent: config, name, listen: address, trustFile }: DoorConfig,
  env: Env,
  log: Log,
  now: () => number = Date.now,
): Promise<ServingAgent> {
  let agent: Agent | undefined;
  const logTrust: Log = (entry) => {
    log(entry);
    const outcome = entry["event"] === "trust_changed" ? "loaded" : "refused";
    agent?.audit.record({ event: "trusted_keys", outcome });
  };
  const trusted = await openTrustedKeys(trustFile, logTrust);
  if ("path" in address) await freeSocketPath(address.path);
  agent = await startAgent(config, env, now);
  const { recordRefusal } = agent.audit;
  let nonces: ReturnType<typeof openNonceMemory> | undefined;
  try {
    nonces = openNonceMemory(join(config.stateDir, "door.mark"));
    const door = createDoor({
      agent: createServer(agent.operations),
      name,
      trusted,
      nonces,
      log: (entry) => {
        log(entry);
        const { event, reason, method } = entry;
        if (event !== "refused") return;
        recordRefusal({ event: "refused", outcome: String(reason), key_name: null, method: String(method) });
      },
      now: Date.now,
    });
    const server = httpServer(door, BOUNDS, () => new Response(null, { status: 400 }));
    const url = await listenOn(server, address);
    return {
      url,
      keyIds: [...(await trusted()).keys()],
      recipesProblem: agent.recipesProblem,
      countAlive: agent.countAlive,
      async stop() {
        agent.stopWaiting();
        await close(server, STOP_GRACE_MS);
        nonces?.close();
        await agent.close();
      },
    };
  } catch (error) {
    nonces?.close();
    await agent.close();
    throw error;
  }
}

async function listenOn(server: Server, address: DoorConfig["listen"]): Promise<string> {
  try {
    if ("path" in address) {
      makeFolder(dirname(address.path));
      await listen(server, address);
      return `unix:${address.path}`;
    }
    const port = await listen(server, address);
    return `http://${address.host.includes(":") ? `[${address.host}]` : address.host}:${port}`;
  } catch (error) {
    throw new ConfigError(`HUB_AGENT_LISTEN: cannot listen: ${(error as Error).message}`);
  }
}
