import { styleText } from "node:util";

import { recipesAlarm, type RecipesProblem } from "../../host-agent/catalogue/recipes.ts";
import { ownHome } from "../../host-agent/system/own-user.ts";
import type { NodeConfig } from "./config.ts";
import type { FirstRecipe } from "./first-recipe.ts";
import type { Serving } from "./serve.ts";

/** Where the banner is written. Only a terminal that supports colours gets them. */
type Stream = NodeJS.WriteStream;

const TITLE = "Enterprise API v1";
const UNIX = "unix:";
const SUBTITLE = "Pipelines & Scripts";

/**
 * What the Node adapter prints on start: its addresses, whether it needs API keys,
 * its settings, and a first command. Without a terminal the lines are plain, and
 * programs may read `address   URL`.
 */
export async function banner(config: NodeConfig, serving: Serving, stream: Stream): Promise<string> {
  const facts = parts(config, await serving.recipesProblem());
  const first = firstCommand(serving, await serving.firstRecipe());
  return stream.isTTY
    ? terminalBanner(config, serving, { facts, first }, stream)
    : plainBanner(config, serving, { facts, first });
}

/** What of a banner is looked up. */
interface Parts {
  facts: readonly Fact[];
  /** The lines of a first command. */
  first: string;
}

function plainBanner(config: NodeConfig, serving: Serving, { facts, first }: Parts): string {
  const all: Fact[] = [...addresses(serving), ["mode", modeOf(config, serving)], ...facts];
  return `${TITLE} - ${SUBTITLE}
${all.map(([name, value, alarm = ""]) => `  ${name.padEnd(10)}${value}${alarm}`).join("\n")}

Try first:
  ${first}
`;
}

function terminalBanner(
  config: NodeConfig,
  serving: Serving,
  { facts, first }: Parts,
  stream: Stream,
): string {
  const style = (format: Parameters<typeof styleText>[0], text: string) =>
    styleText(format, text, { stream });
  const row = ([name, value]: readonly [string, string]) => `  ${style("dim", name.padEnd(10))}${value}`;
  const isDev = serving.mode === "dev";
  return [
    "",
    `  ${style(["bold", "cyan"], TITLE)}  ${style("dim", SUBTITLE)}`,
    "",
    ...addresses(serving).map(([name, url]) => row([name, style(["cyan", "underline"], url)])),
    "",
    row(["mode", style(isDev ? ["bold", "yellow"] : "green", modeOf(config, serving))]),
    ...facts.map(([name, value, alarm = ""]) =>
      row([name, `${value.split(", ").map(fromHome).join(", ")}${style(["bold", "yellow"], alarm)}`]),
    ),
    "",
    `  Open the console, or try first:`,
    ...first.split("\n").map((line) => `  ${line}`),
    "",
    `  ${style("dim", "Ctrl-C stops the service. Runs continue.")}`,
    "",
  ].join("\n");
}

/** `alarm` is what is wrong, if anything is. */
type Fact = readonly [name: string, value: string, alarm?: string];

function addresses({ url }: Serving): Fact[] {
  // The pages have the address of the proxy in front.
  if (url.startsWith(UNIX)) return [["address", url]];
  return [
    ["address", url],
    ["console", `${url}/console`],
    ["reference", `${url}/docs`],
  ];
}

function modeOf({ keysFile }: NodeConfig, { mode }: Serving): string {
  return mode === "dev"
    ? `dev - NO API KEYS: everyone who reaches this address may launch (no keys in ${keysFile})`
    : `enforced - API keys of ${keysFile}`;
}

function parts({ agent, remoteAgent }: NodeConfig, recipesProblem: RecipesProblem | undefined): Fact[] {
  if (remoteAgent) {
    const { name, url, key } = remoteAgent;
    return [["agent", `${name} at ${url}, signed with ${key.kid}`]];
  }
  return [
    ["agent", "embedded in this process"],
    ["scripts", agent.scriptRoots.join(", ") || "none (set HUB_SCRIPT_ROOTS)"],
    ["recipes", agent.recipesFile, recipesProblem === undefined ? "" : recipesAlarm(recipesProblem)],
    ["state", agent.stateDir],
  ];
}

/** A command that works with this catalogue: a launch, or where nothing can be launched without parameters, the list of recipes. */
function firstCommand({ url, mode }: Serving, recipe: FirstRecipe | undefined): string {
  const [curl, origin] = url.startsWith(UNIX)
    ? [`curl --unix-socket ${url.slice(UNIX.length)}`, "http://localhost"]
    : ["curl", url];
  const key = mode === "dev" ? "" : ` \\\n    -H "Authorization: Bearer $HUB_KEY"`;
  if (recipe === undefined) return `${curl} ${origin}/api/v1/pipelines/recipes${key}`;
  const { recipe_id, args } = recipe;
  const body =
    args === undefined ? `{"recipe_id": "${recipe_id}"}` : `{"recipe_id": "${recipe_id}", "args": "${args}"}`;
  return `${curl} -X POST ${origin}/api/v1/pipelines/runs${key} \\
    -H "Content-Type: application/json" \\
    -d '${body}'`;
}

/** A path with `~` for the home folder. */
function fromHome(path: string): string {
  const home = ownHome();
  return path === home || path.startsWith(`${home}/`) ? `~${path.slice(home.length)}` : path;
}
