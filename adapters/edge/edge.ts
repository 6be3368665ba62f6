// npm run edge: the whole edge on this machine, offline: a host-agent, and in front of it the Worker in a real workerd
// with its own KV. adapters/edge/ may import handlers/, host-agent/ and the adapters node/, workers/ and keys/, and needs
// the development packages. It is for trying out and for tests.
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";

import { parseKeysFile } from "../../handlers/keys.ts";
import { prepareStateDir } from "../../host-agent/state-dir.ts";
import { readDoorConfig, SHIPPED_RECIPES } from "../../host-agent/config.ts";
import { ConfigError } from "../../host-agent/system/config-error.ts";
import { close, listen } from "../../host-agent/system/http-listener.ts";
import { PrivateKey } from "../../host-agent/protocol/signature.ts";
import { runService } from "../../host-agent/system/service.ts";
import { serveAgent, type ServingAgent } from "../../host-agent/serve-agent.ts";
import { settingWarnings } from "../../host-agent/setting-warnings.ts";
import { makeAgentKey, trustKey } from "../keys/agent-pair.ts";
import { type NodeConfig, readNodeConfig } from "../node/config.ts";
import type { Workerd } from "./workerd.ts";
import { cannotListen } from "../node/listen-on.ts";

await runService(async (log) => {
  // What has been opened is closed in reverse order: when a later step fails, and in stop().
  await using opened = new AsyncDisposableStack();
  const config = readNodeConfig(process.env);
  if (config.host.startsWith("unix:"))
    throw new ConfigError("HUB_HOST: workerd listens on a host and port only");
  const door = readDoorConfig({ HUB_AGENT_LISTEN: "127.0.0.1:0", ...process.env });
  const { keysBeforeStart, startWorkerd } = await import("./workerd.ts").catch(withoutPackages);
  await tryListening(config);
  prepareStateDir(door.agent.stateDir);
  const agentKey = await agentKeyOf(door.agent.stateDir, door.trustFile);
  const agent = await serveAgent(door, process.env, log);
  opened.defer(agent.stop);
  const kvFolder = join(door.agent.stateDir, "edge-kv");
  const keys = await keysBeforeStart(kvFolder, devKeys);
  const edge = await startWorkerd({
    host: config.host,
    port: config.port,
    agentUrl: agent.url,
    agentKey,
    agentName: door.name,
    kvFolder,
    devMode: false,
    onLog: (line) => process.stderr.write(line),
  });
  opened.defer(edge.stop);
  const text = banner(edge, agent, {
    key: parseKeysFile(keys).keys.find((entry) => entry.key !== undefined)?.key,
    samples: door.agent.recipesFile === SHIPPED_RECIPES,
  });
  const owned = opened.move();
  return {
    banner: text,
    warnings: settingWarnings(process.env, {}),
    countAlive: agent.countAlive,
    stop: () => owned.disposeAsync(),
  };
});

function withoutPackages(error: NodeJS.ErrnoException): never {
  if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
  throw new ConfigError("npm run edge needs the development packages. Install them with `npm ci`");
}

/** Throws ConfigError when the address cannot be used. workerd itself would report that as a stack. */
async function tryListening(config: NodeConfig): Promise<void> {
  const server = createServer();
  try {
    await listen(server, { host: config.host, port: config.port });
  } catch (error) {
    throw cannotListen(config, error as NodeJS.ErrnoException);
  }
  await close(server, 0);
}

/** The key with which this edge signs. The first start creates it and lets the agent trust it. */
async function agentKeyOf(stateDir: string, trustFile: string): Promise<PrivateKey> {
  const file = join(stateDir, "edge_key.json");
  if (existsSync(file)) return PrivateKey.parse(JSON.parse(readFileSync(file, "utf8")));
  const key = await makeAgentKey();
  const { d: _secret, ...publicKey } = key;
  trustKey(trustFile, publicKey);
  writeFileSync(file, JSON.stringify(key), { mode: 0o600, flag: "wx" });
  return key;
}

/**
 * A keys file for a first try, with a key that is stored in plain, to show it. Each edge has its own: with a
 * public key any page in a browser on this machine could launch, once its name resolves to this machine. A real
 * edge has keys of `npm run keys -- create`.
 */
function devKeys(): string {
  const key = `sk_edge_${randomBytes(24).toString("hex")}`;
  return JSON.stringify({ keys: [{ name: "edge-dev", key, scopes: ["*"] }] });
}

function banner(
  edge: Workerd,
  agent: ServingAgent,
  { key, samples }: { key: string | undefined; samples: boolean },
): string {
  // The recipes of another catalogue may need parameters.
  const [call, more] = samples
    ? [
        "-X POST ",
        `/runs \\
    -H "Content-Type: application/json" \\
    -d '{"recipe_id": "build_all_extra_features", "args": "--limit 20"}' \\`,
      ]
    : ["", "/recipes \\"];
  return `Enterprise API v1 at the edge: the Worker in workerd, in front of a signed host-agent
  address   ${edge.url}
  console   ${edge.url}/console
  agent     ${agent.url}, trusts ${agent.keyIds.join(", ")}

Try first:
  curl ${call}${edge.url}/api/v1/pipelines${more}
    -H "Authorization: Bearer ${key ?? "$HUB_KEY"}"
`;
}
