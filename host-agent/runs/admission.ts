import type { LaunchPlan } from "./launch-plan.ts";
import { ApiProblem } from "../protocol/problem.ts";
import type { RunStore } from "../store/run-store.ts";

export type Room = ReturnType<typeof createRoom>;

/** Whether the host has room for one more run: at most `maxRunning` at once, and of a recipe as many as it says. */
export function createRoom(store: RunStore, maxRunning: number) {
  /** How many runs of a recipe are alive. */
  function countRecipe(recipeId: string | undefined): number {
    return store.alive().filter((run) => JSON.parse(run.spec).recipe_id === recipeId).length;
  }

  /** The limit that one more run would break, in a sentence; undefined when there is room. */
  function limitReached(plan: LaunchPlan): string | undefined {
    if (store.countAlive() >= maxRunning) return `The host runs ${maxRunning} runs, its limit`;
    if (plan.maxRunning === undefined) return undefined;
    if (countRecipe(plan.recipeId) < plan.maxRunning) return undefined;
    return `The recipe ${plan.recipeId} may run ${plan.maxRunning} times at once, and does`;
  }

  return {
    countRecipe,
    limitReached,
    /** Throws `too_many_runs` when there is no room. */
    refuseWhenFull(plan: LaunchPlan): void {
      const limit = limitReached(plan);
      if (limit !== undefined) throw tooManyRuns(limit);
    },
  };
}

/** The refusal of a launch that would break this limit. */
export function tooManyRuns(limit: string): ApiProblem {
  return new ApiProblem("too_many_runs", `${limit}; try again later`, { retryAfterSeconds: 10 });
}
