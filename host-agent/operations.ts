import type { Agent } from "./protocol/agent.ts";
import type { AgentHealth } from "./protocol/health.ts";
import { type Reach, reachesRecipe } from "./protocol/reach.ts";
import { publicRecipe, publicRecipesProblem, type Recipes } from "./catalogue/recipes.ts";
import type { Runs } from "./runs/runs.ts";
import type { Scripts } from "./catalogue/scripts.ts";

export interface OperationsDeps {
  runs: Runs;
  recipes: Recipes;
  scripts: Scripts;
  /** What is wrong with the audit log; undefined when all is well. */
  auditProblem(): string | undefined;
  /** What is wrong with the state folder; undefined when all is well. */
  stateProblem(): string | undefined;
}

/**
 * What the agent does, over the given parts, for a caller with this reach; without one, for a caller that reaches everything. The
 * input is taken as it is: who lets others call this checks it first. What is thrown may be no ApiProblem.
 */
export function createOperations(deps: OperationsDeps, reach?: Reach): Agent {
  const { runs, recipes, scripts, auditProblem, stateProblem } = deps;
  return {
    // One replaces another, and so could widen it: nothing in the product asks for two.
    within(narrower) {
      if (reach !== undefined) throw new TypeError("the reach of this caller is set already");
      return createOperations(deps, narrower);
    },

    async health(): Promise<AgentHealth> {
      const problem = await recipes.problem();
      const troubles = [auditProblem(), stateProblem()].filter((trouble) => trouble !== undefined);
      const problems = [...(problem === undefined ? [] : [publicRecipesProblem(problem)]), ...troubles];
      return { status: problems.length === 0 ? "ok" : "degraded", problems, running: runs.countAlive() };
    },

    async listRecipes() {
      const catalogue = await recipes.current();
      const inReach = catalogue.recipes.values().filter(({ recipe_id }) => reachesRecipe(reach, recipe_id));
      return { recipes: inReach.map(publicRecipe).toArray() };
    },

    listScripts: (path) => scripts.list(path, reach),
    readScript: (path) => scripts.read(path, reach),
    launch: (order, signal) => runs.launch(order, signal, reach),
    previewLaunch: (order) => runs.preview(order, reach),
    listRuns: (query) => runs.list(query, reach),
    getRun: (source, runId, wait) => runs.get(source, runId, wait, reach),
    killRun: (source, runId, order, who) => runs.kill(source, runId, order, who.keyName, reach),

    async readLog(source, runId, query) {
      const { bytes, offset, size } = await runs.readLog(source, runId, query, reach);
      return { bytes, offset, size, more: offset < size };
    },
  };
}
