import { ConfigError } from "../host-agent/config.ts";
import { type NodeConfig, readNodeConfig } from "./config.ts";
import { logLines } from "./log-lines.ts";
import { type Serving, serveNode } from "./serve.ts";

const STDERR = 2;

try {
  const config = readNodeConfig(process.env);
  const lines = logLines(STDERR);
  const serving = await serveNode(config, process.env, lines.log);
  console.log(banner(config, serving));
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => {
      void stop(serving, signal).finally(lines.flush);
    });
  }
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  console.error(`Cannot start.\n${error.message}`);
  process.exitCode = 78; // EX_CONFIG of sysexits(3)
}

async function stop(serving: Serving, signal: string): Promise<void> {
  const alive = serving.countAlive();
  await serving.stop();
  const runs = alive === 0 ? "no runs are alive" : `${alive} run${alive === 1 ? "" : "s"} left running`;
  console.log(`Stopped by ${signal}; ${runs}.`);
  process.exit();
}

function banner({ agent, keysFile }: NodeConfig, { url, mode }: Serving): string {
  const auth =
    mode === "dev"
      ? `dev - NO API KEYS: everyone who reaches this address may launch (no keys in ${keysFile})`
      : `enforced - API keys of ${keysFile}`;
  const header = mode === "dev" ? "" : ` \\\n    -H "Authorization: Bearer $HUB_KEY"`;
  return `Enterprise API v1 - Pipelines & Scripts
  address   ${url}
  mode      ${auth}
  scripts   ${agent.scriptRoots.join(", ") || "none (HUB_SCRIPT_ROOTS is empty)"}
  recipes   ${agent.recipesFile}
  state     ${agent.stateDir}

Try first:
  curl -X POST ${url}/api/v1/pipelines/runs${header} \\
    -H "Content-Type: application/json" \\
    -d '{"recipe_id": "build_all_extra_features", "args": "--limit 20"}'
`;
}
