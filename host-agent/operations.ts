import type { Agent } from "./protocol/agent.ts";
import type { AgentHealth } from "./protocol/health.ts";
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
 * What the agent does, over the given parts. The input is taken as it is: who
 * lets others call this checks it first. What is thrown may be no ApiProblem.
 */
export function createOperations({
  runs,
  recipes,
  scripts,
  auditProblem,
  stateProblem,
}: OperationsDeps): Agent {
  return {
    async health(): Promise<AgentHealth> {
      const problem = await recipes.problem();
      const troubles = [auditProblem(), stateProblem()].filter((trouble) => trouble !== undefined);
      const problems = [...(problem === undefined ? [] : [publicRecipesProblem(problem)]), ...troubles];
      return { status: problems.length === 0 ? "ok" : "degraded", problems, running: runs.countAlive() };
    },

    async listRecipes() {
      const catalogue = await recipes.current();
      return { recipes: [...catalogue.recipes.values()].map(publicRecipe) };
    },

    listScripts: (path) => scripts.list(path),
    readScript: (path) => scripts.read(path),
    launch: (order, signal) => runs.launch(order, signal),
    previewLaunch: (order) => runs.preview(order),
    listRuns: (query) => runs.list(query),
    getRun: (source, runId, wait) => runs.get(source, runId, wait),
    killRun: (source, runId, order, who) => runs.kill(source, runId, order, who.keyName),

    async readLog(source, runId, query) {
      const { bytes, offset, size } = await runs.readLog(source, runId, query);
      return { bytes, offset, size, more: offset < size };
    },
  };
}
