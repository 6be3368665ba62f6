import { type DoorConfig, readDoorConfig } from "./config.ts";
import { recipesAlarm, type RecipesProblem } from "./catalogue/recipes.ts";
import { runService } from "./system/service.ts";
import { settingWarnings } from "./setting-warnings.ts";
import { serveAgent, type ServingAgent } from "./serve-agent.ts";

await runService(async (log) => {
  const config = readDoorConfig(process.env);
  const serving = await serveAgent(config, process.env, log);
  return {
    ...serving,
    banner: banner(config, serving, await serving.recipesProblem()),
    warnings: settingWarnings(process.env, {}),
  };
});

function banner(
  { agent, name, trustFile }: DoorConfig,
  { url, keyIds }: ServingAgent,
  recipesProblem: RecipesProblem | undefined,
): string {
  return `Host-agent of Enterprise API v1
  address   ${url}
  name      ${name}
  trusts    ${keyIds.join(", ")} (${trustFile})
  scripts   ${agent.scriptRoots.join(", ") || "none (set HUB_SCRIPT_ROOTS)"}
  recipes   ${agent.recipesFile}${recipesProblem === undefined ? "" : recipesAlarm(recipesProblem)}
  state     ${agent.stateDir}
`;
}
