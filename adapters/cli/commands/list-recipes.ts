import type { RecipeList } from "../../../host-agent/protocol/schemas.ts";
import type { Context } from "../context.ts";
import { EXIT } from "../exit.ts";
import { printable } from "../printable.ts";
import { withRetries } from "../retry.ts";
import { renderTable } from "../table.ts";

/** Lists the recipes. Returns the exit code. */
export async function showRecipes({ api: openApi, output, json, retries }: Context): Promise<number> {
  const api = await openApi();
  const list = await withRetries(
    () => api.json<RecipeList>("GET", "/api/v1/pipelines/recipes", ["recipes"]),
    retries("read"),
  );
  if (json) await output.json(list);
  else {
    const rows = list.recipes.map(({ recipe_id, title, description }) =>
      [recipe_id, title, description].map(printable),
    );
    await output.write(renderTable(["RECIPE", "TITLE", "DESCRIPTION"], rows, output.width));
  }
  return EXIT.ok;
}
