import { existsSync } from "node:fs";
import { hostname } from "node:os";
import { dirname } from "node:path";

import { agentClient } from "../../handlers/agent-client.ts";
import { httpTransport, type RemoteAgent } from "../../handlers/agent-transport.ts";
import { createApp } from "../../handlers/app.ts";
import type { KeyRing } from "../../handlers/auth.ts";
import { isLoopback } from "../../handlers/loopback.ts";
import { rememberHealth } from "../../handlers/remember-health.ts";
import { type Agent, startAgent } from "../../host-agent/agent.ts";
import type { RecipesProblem } from "../../host-agent/catalogue/recipes.ts";
import type { RecordEvent } from "../../host-agent/audit/audit-log.ts";
import { type AgentConfig, type Env, SHIPPED_RECIPES } from "../../host-agent/config.ts";
import { type Clock, hostClock } from "../../host-agent/system/clock.ts";
import { ConfigError } from "../../host-agent/system/config-error.ts";
import type { Log } from "../../host-agent/system/log-line.ts";
import { makeFolder } from "../../host-agent/system/make-folder.ts";
import type { Agent as Operations } from "../../host-agent/protocol/agent.ts";
import { requestSigner } from "../../host-agent/protocol/signature.ts";
import type { NodeConfig, RemoteAgentConfig } from "./config.ts";
import { folderAssets, PAGES_FOLDER } from "./assets-folder.ts";
import { embeddedAgent } from "./embedded-agent.ts";
import { firstRecipe, type FirstRecipe } from "./first-recipe.ts";
import { close, httpServer } from "./http-server.ts";
import { openKeysFile } from "./keys-file.ts";
import { jsonStringOf } from "./json-string.ts";
import { listenOn } from "./listen-on.ts";
import { sha256 } from "../../host-agent/system/sha256.ts";
import { createKeyCommand } from "./keys-path.ts";
import { keysSeen } from "./keys-seen.ts";
import { memoryKV } from "./kv-memory.ts";
import { sqliteKV } from "./kv-sqlite.ts";
import { unixFetch } from "./unix-fetch.ts";

/** A server that listens. */
export interface Serving {
  url: string;
  mode: KeyRing["mode"];
  /** What an operator should know about the API keys at the start, a sentence each. */
  warnings: string[];
  /** What is wrong with the embedded agent's recipes file now, undefined when nothing is. */
  recipesProblem(): Promise<RecipesProblem | undefined>;
  /** A recipe to try first; undefined when none can be launched without parameters, or the agent is remote. */
  firstRecipe(): Promise<FirstRecipe | undefined>;
  /** How many runs of the embedded agent are alive, after a look at each; undefined with a remote agent. */
  countAlive(): Promise<number | undefined>;
  /** Refuses new requests and finishes those in progress. The runs continue. */
  stop(): Promise<void>;
}

const STOP_GRACE_MS = 3_000;

/**
 * Starts the API over HTTP in this process, with an embedded host-agent or with a
 * remote one, which need not be running yet. `now` is the wall clock of the runs and of
 * the KV, `clock` that of the runs' durations. Throws ConfigError when a setting or a file forbids it.
 */
export async function serveNode(
  config: NodeConfig,
  env: Env,
  log: Log,
  now: () => number = Date.now,
  clock: Clock = hostClock(now),
): Promise<Serving> {
  // What has been opened is closed in reverse order: when a later step fails, and in stop().
  await using opened = new AsyncDisposableStack();
  // An embedded agent records changes of the keys; with a remote one the request log does.
  let record: RecordEvent | undefined;
  const seen = keysSeen(config.agent.stateDir);
  seen.refuseMissing(config.keysFile);
  const keys = await guardedKeys(config, log, (event) => {
    record?.(event);
    if (event.outcome === "loaded") seen.note(event.mode);
  });
  const ring = await keys();
  const { mode } = ring;
  if (mode === "unavailable") throw openToAll(config);

  const agent = config.remoteAgent
    ? await reachAgent(config.remoteAgent)
    : await embedAgent(config.agent, env, log, { now, clock });
  opened.defer(agent.close);
  const { audit } = agent;
  record = audit?.record ?? ((event) => log({ level: "info", ...event }));
  record({ event: "keys", outcome: "loaded", mode });
  const kv = await openKV(config.kvFile, now, log);
  opened.defer(() => kv.close());
  if (existsSync(config.keysFile)) seen.note(mode);

  const stopping = new AbortController();
  const app = createApp({
    agent: agent.operations,
    kv,
    keys,
    digest: sha256,
    jsonString: jsonStringOf,
    publicUrl: config.publicUrl,
    requestsPerMinute: config.ratePerKey,
    failuresPerMinute: config.failedAuthPerMinute,
    audit: (event) => {
      // A refusal has a line in the request log in any case.
      if (event.event === "refused") audit?.recordRefusal({ ...event });
      else record?.({ ...event });
    },
    log,
    now,
    assets: folderAssets(PAGES_FOLDER),
    stopping: stopping.signal,
  });
  const server = httpServer(app.fetch, config.trustedProxies);
  opened.defer(async () => {
    stopping.abort();
    await close(server, STOP_GRACE_MS);
  });
  const url = await listenOn(server, config);
  const owned = opened.move();
  return {
    url,
    mode,
    warnings: ringWarnings(ring, config.keysFile, now()),
    recipesProblem: agent.recipesProblem,
    firstRecipe: agent.firstRecipe,
    countAlive: agent.countAlive,
    stop: () => owned.disposeAsync(),
  };
}

function openToAll({ host, sockets, keysFile }: NodeConfig): ConfigError {
  const place = sockets.length > 0 ? "a socket of systemd" : host;
  return new ConfigError(
    `HUB_HOST: without API keys the Hub is open to everyone who can reach it, and ${place} is not loopback. ` +
      `Create a key: ${createKeyCommand(keysFile)} - or set HUB_ALLOW_OPEN=1 to allow that`,
  );
}

function ringWarnings(ring: KeyRing, keysFile: string, now: number): string[] {
  if (ring.mode === "dev" && process.getuid?.() === 0) {
    return ["this runs as root without API keys: every user of this machine can launch as root"];
  }
  if (ring.mode !== "enforced") return [];
  const isOver = [...ring.keys.values()].every(
    ({ expiresAt = Number.POSITIVE_INFINITY }) => expiresAt <= now,
  );
  const expired = `all API keys have expired: every request is refused. Create a key: ${createKeyCommand(keysFile)}`;
  return [...(isOver ? [expired] : []), ...(ring.warnings ?? [])];
}

/** An agent, embedded or remote, as the adapter uses it. */
interface HeldAgent extends Pick<Serving, "countAlive" | "recipesProblem" | "firstRecipe"> {
  operations: Operations;
  /** Undefined for an agent in another process. */
  audit: Agent["audit"] | undefined;
  close(): Promise<void>;
}

/** The origin that an agent on a Unix socket sees. */
const NO_HOST = "http://host-agent";

async function embedAgent(
  config: AgentConfig,
  env: Env,
  log: Log,
  { now, clock }: { now: () => number; clock: Clock },
): Promise<HeldAgent> {
  const { operations, close: closeAgent, ...agent } = await startAgent(config, env, log, now, clock);
  const samples = config.recipesFile === SHIPPED_RECIPES;
  return {
    ...agent,
    operations: embeddedAgent(operations),
    firstRecipe: async () => firstRecipe((await operations.listRecipes()).recipes, samples),
    close: closeAgent,
  };
}

async function reachAgent(config: RemoteAgentConfig): Promise<HeldAgent> {
  const client = agentClient(httpTransport(await remoteAgent(config)));
  const operations = rememberHealth(client, { isOneProcess: true });
  const notOurs = { audit: undefined, recipesProblem: unknown, firstRecipe: unknown, countAlive: unknown };
  return { operations, ...notOurs, close: async () => {} };
}

/** What only the remote agent itself knows. */
async function unknown(): Promise<undefined> {}

/** The connection to an agent in another process. Throws ConfigError when its key is invalid. */
export async function remoteAgent({ url, name, key }: RemoteAgentConfig): Promise<RemoteAgent> {
  const sign = await requestSigner(key, name).catch(() => {
    throw new ConfigError("HUB_AGENT_KEY: is not a private Ed25519 JWK: its parts do not belong together");
  });
  return url.startsWith("unix:")
    ? { url: NO_HOST, sign, fetch: unixFetch(url.slice("unix:".length)) }
    : { url, sign, fetch: (request) => fetch(request) };
}

/** The keys of the file. Dev mode serves only this machine, unless HUB_ALLOW_OPEN allows more. */
async function guardedKeys(
  { keysFile, host, hosts, sockets, allowOpen }: NodeConfig,
  log: Log,
  record: (event: { event: string; outcome: string; mode: string }) => void,
): Promise<() => Promise<KeyRing>> {
  const onChange = (outcome: string, mode: string) => record({ event: "keys", outcome, mode });
  const keys = await openKeysFile(keysFile, log, Date.now, onChange).catch((error: Error) => {
    throw new ConfigError(`HUB_KEYS_FILE: ${error.message}`);
  });
  // This machine's own name belongs to nobody else, who could let it lead elsewhere.
  const names = [...hosts, host.toLowerCase(), hostname().toLowerCase()];
  const open: KeyRing = { mode: "dev", audience: { localOnly: false, hosts: names } };
  const local: KeyRing = { mode: "dev", audience: { localOnly: true, hosts } };
  // A proxy with clients everywhere may be in front of a socket that is not a port.
  const closed = isLoopback(host) && sockets.length === 0 ? local : CLOSED;
  const dev = allowOpen ? open : closed;
  return async () => {
    const ring = await keys();
    return ring.mode === "dev" ? dev : ring;
  };
}

const CLOSED: KeyRing = {
  mode: "unavailable",
  problem: "no API keys exist, and dev mode is for loopback only; every request is refused",
};

async function openKV(file: string | undefined, now: () => number, log: Log) {
  if (file === undefined) return { ...memoryKV({ now }), close() {} };
  try {
    makeFolder(dirname(file));
    return sqliteKV(file, now, log);
  } catch (error) {
    throw new ConfigError(`HUB_KV: sqlite:${file} cannot be used: ${(error as Error).message}`);
  }
}
