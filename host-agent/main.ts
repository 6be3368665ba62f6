import { ConfigError, type DoorConfig, readDoorConfig } from "./config.ts";
import { logLines } from "./log-lines.ts";
import { noRecipes } from "./recipes.ts";
import { serveAgent, type ServingAgent } from "./serve.ts";

const STDERR = 2;

try {
  const config = readDoorConfig(process.env);
  const lines = logLines(STDERR);
  const serving = await serveAgent(config, process.env, lines.log);
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => {
      void stop(serving, signal, lines.flush);
    });
  }
  // Last, so that whoever reads it may already send a signal.
  console.log(banner(config, serving, await serving.recipesProblem()));
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  console.error(`Cannot start.\n${error.message}`);
  process.exitCode = 78; // EX_CONFIG of sysexits(3)
}

async function stop(serving: ServingAgent, signal: string, flush: () => void): Promise<void> {
  const alive = await serving.countAlive();
  await serving.stop();
  const runs = alive === 0 ? "no runs are alive" : `${alive} run${alive === 1 ? "" : "s"} left running`;
  flush();
  console.log(`Stopped by ${signal}; ${runs}.`);
  process.exit();
}

function banner(
  { agent, name, trustFile }: DoorConfig,
  { url, keyIds }: ServingAgent,
  recipesProblem: string | undefined,
): string {
  return `Host-agent of Enterprise API v1
  address   ${url}
  name      ${name}
  trusts    ${keyIds.join(", ")} (${trustFile})
  scripts   ${agent.scriptRoots.join(", ") || "none (HUB_SCRIPT_ROOTS is empty)"}
  recipes   ${agent.recipesFile}${recipesProblem === undefined ? "" : noRecipes(recipesProblem)}
  state     ${agent.stateDir}
`;
}
