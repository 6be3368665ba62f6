import type { Recipe } from "../../host-agent/protocol/recipe.ts";

/** A recipe of the catalogue that a first launch can name, and arguments that it takes. */
export interface FirstRecipe {
  recipe_id: string;
  args?: string;
}

/** The first recipe that needs no parameter; undefined when there is none. Only of the samples it is known which arguments they take. */
export function firstRecipe(recipes: readonly Recipe[], areSamples: boolean): FirstRecipe | undefined {
  const first = recipes.find(({ params }) => !params.some(({ required }) => required));
  if (first === undefined) return undefined;
  const { recipe_id } = first;
  return areSamples && recipe_id === "build_all_extra_features"
    ? { recipe_id, args: "--limit 20" }
    : { recipe_id };
}
