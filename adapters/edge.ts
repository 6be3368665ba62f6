// npm run edge: the whole edge on this machine, offline: an agent behind its door, and the Worker in a real workerd
// with a KV of its own in front of it.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { parseKeysFile } from "../handlers/keys.ts";
import { ConfigError, readDoorConfig } from "../host-agent/config.ts";
import { logLines } from "../host-agent/log-lines.ts";
import { PrivateKey } from "../host-agent/protocol/signature.ts";
import { serveAgent, type ServingAgent } from "../host-agent/serve.ts";
import { makeAgentKey, trustKey } from "./agent-pair.ts";
import { readNodeConfig } from "./config.ts";
import { startWorkerd, type Workerd } from "./edge/workerd.ts";

const STDERR = 2;
/** For a first try on one's own machine; a real edge has keys of `npm run keys -- create`. */
const DEV_KEYS = {
  keys: [{ name: "edge-dev", key: "sk_dev_only_on_this_machine", scopes: ["*"] }],
};

try {
  const { host, port } = readNodeConfig(process.env);
  const door = readDoorConfig({ HUB_AGENT_LISTEN: "127.0.0.1:0", ...process.env });
  const lines = logLines(STDERR);
  const agentKey = await agentKeyOf(door.agent.stateDir, door.trustFile);
  const agent = await serveAgent(door, process.env, lines.log);
  const edge = await startWorkerd({
    host,
    port,
    agentUrl: agent.url,
    agentKey,
    agentName: door.name,
    kvFolder: join(door.agent.stateDir, "edge-kv"),
    devMode: false,
    onLog: (line) => process.stderr.write(line),
  });
  const key = await seedKeys(edge);
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => void stop(edge, agent, signal, lines.flush));
  }
  console.log(banner(edge, agent, key));
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  console.error(`Cannot start.\n${error.message}`);
  process.exitCode = 78; // EX_CONFIG of sysexits(3)
}

/** The key that this edge signs with, made and trusted at the first start. */
async function agentKeyOf(stateDir: string, trustFile: string): Promise<PrivateKey> {
  const file = join(stateDir, "edge_key.json");
  if (existsSync(file)) return PrivateKey.parse(JSON.parse(readFileSync(file, "utf8")));
  const key = await makeAgentKey();
  const { d: _secret, ...publicKey } = key;
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  trustKey(trustFile, publicKey);
  writeFileSync(file, JSON.stringify(key), { mode: 0o600, flag: "wx" });
  return key;
}

/** Puts a key for trying into a KV that has none; returns one that is in plain, to show. */
async function seedKeys(edge: Workerd): Promise<string | undefined> {
  const text = await edge.getKeys();
  if (text === null) await edge.putKeys(JSON.stringify(DEV_KEYS));
  return parseKeysFile(text ?? JSON.stringify(DEV_KEYS)).keys.find((entry) => entry.key !== undefined)?.key;
}

async function stop(edge: Workerd, agent: ServingAgent, signal: string, flush: () => void): Promise<void> {
  const alive = await agent.countAlive();
  await edge.stop();
  await agent.stop();
  flush();
  console.log(`Stopped by ${signal}; ${alive === 0 ? "no runs are alive" : `${alive} left running`}.`);
  process.exit();
}

function banner(edge: Workerd, agent: ServingAgent, key: string | undefined): string {
  return `Enterprise API v1 at the edge: the Worker in workerd, in front of a signed host-agent
  address   ${edge.url}
  console   ${edge.url}/console
  agent     ${agent.url}, trusts ${agent.keyIds.join(", ")}

Try first:
  curl -X POST ${edge.url}/api/v1/pipelines/runs \\
    -H "Authorization: Bearer ${key ?? "$HUB_KEY"}" \\
    -H "Content-Type: application/json" \\
    -d '{"recipe_id": "build_all_extra_features", "args": "--limit 20"}'
`;
}
