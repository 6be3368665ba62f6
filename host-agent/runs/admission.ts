import { ApiProblem } from "../protocol/problem.ts";
import type { RunStore } from "../store/run-store.ts";
import type { LaunchPlan } from "./launch-plan.ts";

export type Admission = ReturnType<typeof createAdmission>;

/** Whether one more run may start: at most `maxRunning` on the host at once, and of a recipe as many as it says. */
export function createAdmission(store: RunStore, maxRunning: number) {
  /** The limit that one more run would break, in a sentence; undefined when there is none. */
  function limitReached({ recipeId, maxRunning: ofRecipe }: LaunchPlan): string | undefined {
    if (store.countAlive() >= maxRunning) return `The host is at its limit of ${maxRunning} concurrent runs`;
    if (recipeId === undefined || ofRecipe === undefined) return undefined;
    if (store.countAliveOfRecipe(recipeId) < ofRecipe) return undefined;
    return `Recipe ${recipeId} is at its limit of ${ofRecipe} concurrent runs`;
  }

  return {
    limitReached,
    /** Throws `too_many_runs` when a limit is reached. */
    admit(plan: LaunchPlan): void {
      const limit = limitReached(plan);
      if (limit !== undefined) throw tooManyRuns(limit);
    },
  };
}

/** The refusal of a launch that would break this limit. */
export function tooManyRuns(limit: string): ApiProblem {
  return new ApiProblem("too_many_runs", `${limit}; try again later`, { retryAfterSeconds: 10 });
}
