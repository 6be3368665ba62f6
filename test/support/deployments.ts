import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { makeAgentKey, trustKey } from "../../adapters/keys/agent-pair.ts";
import { readNodeConfig } from "../../adapters/node/config.ts";
import { startWorkerd } from "../../adapters/edge/workerd.ts";
import { serveNode } from "../../adapters/node/serve.ts";
import { readDoorConfig } from "../../host-agent/config.ts";
import { PrivateKey } from "../../host-agent/protocol/signature.ts";
import { serveAgent } from "../../host-agent/serve-agent.ts";
import { COMPILE_CACHE } from "./compile-cache.ts";
import { type Deploy, type Setup, until } from "./hub.ts";

const MAIN_TS = fileURLToPath(new URL("../../host-agent/main.ts", import.meta.url));

/** An agent in a separate process, and its key. */
export interface AgentProcess {
  child: ChildProcess;
  /** As HUB_AGENT_URL takes it. */
  url: string;
  key: PrivateKey;
  /** All that it has written to its standard output and error. */
  output(): string;
  /** Ends the agent and waits until it is gone. */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/** Starts the agent as `npm run agent` does, on a Unix socket, or where `listen` says; its key pair stays with the setup. */
export async function startAgentProcess(
  { dir, env }: Setup,
  listen = `unix:${join(dir, "agent.sock")}`,
  trust = join(dir, "trusted_keys.json"),
): Promise<AgentProcess> {
  const key = await keyOf(dir);
  const child = spawn(process.execPath, [MAIN_TS], {
    env: { ...COMPILE_CACHE, ...env, HUB_AGENT_LISTEN: listen, HUB_AGENT_TRUST: trust },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (output += String(data)));
  const url = await until(() => {
    if (child.exitCode !== null) throw new Error(`the agent ended with ${child.exitCode}: ${output}`);
    return /^ {2}address {3}(?<url>\S+)$/m.exec(output)?.groups!["url"];
  });
  return {
    child,
    url,
    key,
    output: () => output,
    async stop(signal = "SIGTERM") {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, "exit");
      child.kill(signal);
      await ended;
    },
  };
}

async function keyOf(dir: string, given?: PrivateKey): Promise<PrivateKey> {
  const file = join(dir, "agent_key.json");
  if (existsSync(file)) return PrivateKey.parse(JSON.parse(readFileSync(file, "utf8")));
  const key = given ?? (await makeAgentKey());
  writeFileSync(file, JSON.stringify(key), { mode: 0o600 });
  const { d: _secret, ...publicKey } = key;
  trustKey(join(dir, "trusted_keys.json"), publicKey);
  return key;
}

/** The settings of a Node adapter that reaches this agent. */
export function remoteEnv({ dir, env }: Setup, url: string): Record<string, string> {
  return { ...env, HUB_PORT: "0", HUB_AGENT_URL: url, HUB_AGENT_KEY: join(dir, "agent_key.json") };
}

/** Starts the agent in this process; `given` is the key it trusts; without it, the agent gets a new one. */
export async function startAgentHere({ dir, env }: Setup, listen: string, given?: PrivateKey) {
  const key = await keyOf(dir, given);
  const config = readDoorConfig({
    ...env,
    HUB_AGENT_LISTEN: listen,
    HUB_AGENT_TRUST: join(dir, "trusted_keys.json"),
  });
  const { url, stop } = await serveAgent(config, env, () => {});
  return { url, key, stop };
}

/** Node in front of an agent over a Unix socket, signed. Both in this process: that is quicker, and the socket as real. */
export const nodeRemote: Deploy = async (setup) => {
  const agent = await startAgentHere(setup, `unix:${join(setup.dir, "agent.sock")}`);
  const env = remoteEnv(setup, agent.url);
  const serving = await serveNode(readNodeConfig(env), env, () => {});
  return {
    url: serving.url,
    async stop() {
      await serving.stop();
      await agent.stop();
    },
  };
};

/** The Worker in a real workerd, in front of an agent over TCP, signed. */
export const workerd: Deploy = async (setup) => {
  const agent = await startAgentHere(setup, "127.0.0.1:0");
  const { keys, ...settings } = edgeSettings(setup);
  const edge = await startWorkerd({
    host: "127.0.0.1",
    port: 0,
    agentUrl: agent.url,
    agentKey: agent.key,
    agentName: "host-agent",
    kvFolder: join(setup.dir, "edge-kv"),
    ...settings,
  });
  await edge.putKeys(keys);
  return {
    url: edge.url,
    async stop() {
      await edge.stop();
      await agent.stop();
    },
  };
};

/** What an edge takes over from the setup: the keys that its KV is to hold, dev mode, and rates. */
export function edgeSettings({ env }: Setup) {
  const keys = readFileSync(env["HUB_KEYS_FILE"]!, "utf8");
  const names = ["HUB_RATE_PER_KEY", "HUB_FAILED_AUTH_PER_MINUTE"];
  const rates = Object.fromEntries(Object.entries(env).filter(([name]) => names.includes(name)));
  return { keys, devMode: JSON.parse(keys).keys.length === 0, rates };
}
