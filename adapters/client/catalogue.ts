import type { RecipeList } from "../../host-agent/protocol/recipe.ts";
import type { HubClient } from "./hub-client.ts";

/** The recipes, and what the Hub reports as wrong with their file: a broken file must not look like an empty one. */
export interface Catalogue extends RecipeList {
  problems: string[];
}

/** Reads the recipes and the health of their file. Rejects as `listRecipes` does; a health that cannot be read is left out. */
export async function readCatalogue(hub: Pick<HubClient, "listRecipes" | "health">): Promise<Catalogue> {
  const [{ recipes }, health] = await Promise.all([
    hub.listRecipes(),
    hub.health().catch(() => ({ problems: [] })),
  ]);
  const problems = (health.problems ?? []).filter((problem) => /recipe/i.test(problem));
  return { recipes, problems };
}
