import { ConfigError } from "../host-agent/config.ts";
import { type NodeConfig, readNodeConfig } from "./config.ts";
import { logLines } from "../host-agent/log-lines.ts";
import { type Serving, serveNode } from "./serve.ts";

const STDERR = 2;

try {
  const config = readNodeConfig(process.env);
  const lines = logLines(STDERR);
  const serving = await serveNode(config, process.env, lines.log);
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => {
      void stop(serving, signal, lines.flush);
    });
  }
  // Last, so that whoever reads it may already send a signal.
  console.log(banner(config, serving));
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  console.error(`Cannot start.\n${error.message}`);
  process.exitCode = 78; // EX_CONFIG of sysexits(3)
}

async function stop(serving: Serving, signal: string, flush: () => void): Promise<void> {
  const runs = describeRuns(await serving.countAlive());
  await serving.stop();
  flush();
  console.log(`Stopped by ${signal}; ${runs}.`);
  process.exit();
}

function describeRuns(alive: number | undefined): string {
  if (alive === undefined) return "the host-agent and its runs go on";
  return alive === 0 ? "no runs are alive" : `${alive} run${alive === 1 ? "" : "s"} left running`;
}

function describeAgent({ agent, remoteAgent }: NodeConfig): string {
  if (remoteAgent) {
    const { name, url, key } = remoteAgent;
    return `  agent     ${name} at ${url}, signed with ${key.kid}`;
  }
  return `  agent     embedded in this process
  scripts   ${agent.scriptRoots.join(", ") || "none (HUB_SCRIPT_ROOTS is empty)"}
  recipes   ${agent.recipesFile}
  state     ${agent.stateDir}`;
}

function banner(config: NodeConfig, { url, mode }: Serving): string {
  const auth =
    mode === "dev"
      ? `dev - NO API KEYS: everyone who reaches this address may launch (no keys in ${config.keysFile})`
      : `enforced - API keys of ${config.keysFile}`;
  const header = mode === "dev" ? "" : ` \\\n    -H "Authorization: Bearer $HUB_KEY"`;
  return `Enterprise API v1 - Pipelines & Scripts
  address   ${url}
  mode      ${auth}
${describeAgent(config)}

Try first:
  curl -X POST ${url}/api/v1/pipelines/runs${header} \\
    -H "Content-Type: application/json" \\
    -d '{"recipe_id": "build_all_extra_features", "args": "--limit 20"}'
`;
}
