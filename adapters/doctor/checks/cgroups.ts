import {
  inspectCgroupRoot,
  LIMITS,
  readCatalogue,
  unenforceable,
  unreadableProcFile,
} from "../../../host-agent/inspection.ts";
import type { AgentConfig } from "../../../host-agent/config.ts";
import { type Check, fail, type Finding, messageOf, pass, warn } from "../finding.ts";

const HOW = "docs/deploy.md, A cgroup for each run, says how to get it";

/** Whether each run gets a cgroup, and whether its limits can be enforced. */
export const cgroups: Check = {
  name: "Cgroups",
  // Without /proc nothing can be said; its own check reports that.
  look: ({ agent }) => (unreadableProcFile() === undefined ? lookAtCgroups(agent) : []),
};

type Inspect = typeof inspectCgroupRoot;

/** The findings about cgroups, for an agent with these settings; `inspect` looks at the host. */
export function lookAtCgroups(agent: AgentConfig, inspect: Inspect = inspectCgroupRoot): Finding[] {
  let root: ReturnType<Inspect>;
  try {
    root = inspect(agent.cgroup ?? "off");
  } catch (error) {
    return [
      fail(`${messageOf(error)}.`, `The service does not start with it. ${HOW}; or remove the setting.`),
    ];
  }
  const controllers = root.path === undefined ? new Set<never>() : root.controllers;
  const settings = unenforceable(agent.limits ?? {}, controllers).map(({ setting }) => setting);
  const faults = [
    ...settings.map((setting) =>
      fail(
        `${setting} cannot be enforced, because ${root.why}.`,
        `The service does not start with it. ${HOW}.`,
      ),
    ),
    ...recipesWithout(agent, controllers).map(([recipe, fields]) =>
      fail(
        `Recipe ${recipe} cannot be launched: ${fields} cannot be enforced, because ${root.why}.`,
        `Remove the limit, or enable the controller. ${HOW}.`,
      ),
    ),
  ];
  return [placeOf(root, agent), ...faults];
}

function placeOf(root: ReturnType<Inspect>, { cgroup }: AgentConfig): Finding {
  if (root.path === undefined) {
    const says = `Runs get no cgroup, because ${root.why}: a process that hides can survive a kill, and nothing limits memory.`;
    return cgroup === "off" || cgroup === undefined
      ? pass("Runs get no cgroup, because HUB_CGROUP is off.")
      : warn(says, `${HOW}.`);
  }
  const missing = LIMITS.filter(({ controller }) => !root.controllers.has(controller));
  if (missing.length === 0)
    return pass(`Each run gets a cgroup in ${root.path}, with limits where they are set.`);
  const fields = missing.map(({ field }) => field).join(", ");
  return pass(`Each run gets a cgroup in ${root.path}. It cannot have ${fields}, because ${root.why}.`);
}

/** The recipes with a limit that is not enforced here, each with the names of these limits. */
function recipesWithout(
  { recipesFile }: AgentConfig,
  controllers: Parameters<typeof unenforceable>[1],
): [recipe: string, fields: string][] {
  try {
    return [...readCatalogue(recipesFile).recipes.values()].flatMap(({ recipe_id, limits = {} }) => {
      const fields = unenforceable(limits, controllers).map(({ field }) => field);
      return fields.length === 0 ? [] : [[recipe_id, fields.join(", ")] as [string, string]];
    });
  } catch {
    // The check of the recipes file reports that.
    return [];
  }
}
