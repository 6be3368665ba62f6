import type { Server } from "node:http";
import { dirname, join } from "node:path";

import type { Agent as Operations } from "../protocol/agent.ts";
import { hostClock } from "../system/clock.ts";
import { ConfigError } from "../system/config-error.ts";
import {
  addressOf,
  close,
  httpServer,
  type HttpBounds,
  listen,
  type ListenAddress,
} from "../system/http-listener.ts";
import type { Log } from "../system/log-line.ts";
import { makeFolder } from "../system/make-folder.ts";
import { createDoor } from "./door.ts";
import { openNonceMemory } from "./nonce-memory.ts";
import { createServer } from "./server.ts";
import { openTrustedKeys } from "./trusted-keys.ts";
import { freeSocketPath } from "./unix-socket.ts";

// What belongs in this folder: authentication of the edge - who may call the agent (door.ts, trusted-keys.ts, nonce-memory.ts) -
// and the wire: the agent's routes over HTTP (server.ts) on a port or a Unix socket. May import system/ and protocol/.

/** Tight: only our own edges connect here. */
const BOUNDS: HttpBounds = {
  headersTimeoutMs: 5_000,
  requestTimeoutMs: 15_000,
  keepAliveTimeoutMs: 65_000,
  maxHeaderBytes: 16_384,
  maxConnections: 4_096,
};
const STOP_GRACE_MS = 3_000;

/** Where the agent listens, and whom it trusts. */
export interface DoorSettings {
  /** The tag that requests must be signed with. */
  name: string;
  listen: ListenAddress;
  trustFile: string;
  stateDir: string;
}

/** What the door records: a change of its trusted keys, or a refused request. */
interface DoorEvent {
  event: "trusted_keys" | "refused";
  outcome: string;
  [detail: string]: string | null;
}

/** The agent, as far as its door uses it. */
export interface GuardedAgent {
  operations: Operations;
  audit: { record(event: DoorEvent): void; recordRefusal(event: DoorEvent): void };
  stopWaiting(): void;
  close(): Promise<void>;
}

/** An open door. */
export interface OpenDoor {
  /** Where it listens, in the form of HUB_AGENT_URL. */
  url: string;
  keyIds: string[];
  /** Accepts no more requests, finishes those in progress, and closes the agent. */
  stop(): Promise<void>;
}

/**
 * Starts an agent and passes signed requests to it. The trusted keys and the
 * address are checked before the agent starts. Throws ConfigError for a setting or a file that forbids the start.
 */
export async function serveAtDoor<A extends GuardedAgent>(
  { name, listen: address, trustFile, stateDir }: DoorSettings,
  startAgent: () => Promise<A>,
  log: Log,
): Promise<{ agent: A; door: OpenDoor }> {
  let agent: A | undefined;
  const logTrust: Log = (entry) => {
    log(entry);
    const outcome = entry["event"] === "trust_changed" ? "loaded" : "refused";
    agent?.audit.record({ event: "trusted_keys", outcome });
  };
  const trusted = await openTrustedKeys(trustFile, logTrust);
  if ("path" in address) await freeSocketPath(address.path);
  await using cleanup = new AsyncDisposableStack();
  const started = cleanup.adopt(await startAgent(), (each) => each.close());
  agent = started;
  const { recordRefusal } = started.audit;
  const nonces = cleanup.adopt(openNonceMemory(join(stateDir, "door.mark"), hostClock(), log), (each) =>
    each.close(),
  );
  const server = httpServer(
    (request) => door(request),
    BOUNDS,
    () => new Response(null, { status: 400 }),
  );
  const url = await listenOn(server, address);
  cleanup.defer(() => close(server, STOP_GRACE_MS));
  cleanup.defer(() => started.stopWaiting());
  const door = createDoor({
    answersLivez: isOfThisMachine(url),
    agent: createServer(started.operations, log),
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
  const keyIds = [...(await trusted()).keys()];
  // From here on `stop` cleans up.
  const open = cleanup.move();
  return { agent: started, door: { url, keyIds, stop: () => open.disposeAsync() } };
}

function isOfThisMachine(url: string): boolean {
  return url.startsWith("unix:") || /^http:\/\/(?:127\.[\d.]+|\[::1\]):/.test(url);
}

async function listenOn(server: Server, address: ListenAddress): Promise<string> {
  try {
    if ("path" in address) {
      makeFolder(dirname(address.path));
    }
    await listen(server, address);
    return addressOf(server);
  } catch (error) {
    throw new ConfigError(`HUB_AGENT_LISTEN: cannot listen: ${(error as Error).message}`);
  }
}
