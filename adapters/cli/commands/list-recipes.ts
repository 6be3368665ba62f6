import type { Param, Recipe } from "../../../host-agent/protocol/recipe.ts";
import { withRetries } from "../../client/retry.ts";
import { renderTable } from "../../client/table.ts";
import type { Context } from "../context.ts";
import { EXIT } from "../exit.ts";
import { printable } from "../printable.ts";

/** Lists the recipes. Returns the exit code. */
export async function showRecipes({ api: openApi, output, json, retries }: Context): Promise<number> {
  const api = await openApi();
  const list = await withRetries(() => api.listRecipes(), retries("read"));
  if (json) await output.json(list);
  else {
    const rows = list.recipes.map(({ recipe_id, title, description }) =>
      [recipe_id, title, description].map(printable),
    );
    await output.write(await renderTable(["RECIPE", "TITLE", "DESCRIPTION"], rows, output.width));
    for (const recipe of list.recipes) await output.write(launchHelp(recipe));
  }
  return EXIT.ok;
}

/** What a launch of a recipe takes; "" if the recipe does not describe it. An older server sends neither field. */
function launchHelp({ recipe_id, args_help, params }: Partial<Recipe>): string {
  const lines = [
    ...(params ?? []).map((param) => `  --param ${paramHelp(param)}`),
    ...(args_help
      ? ["  arguments after --:", ...args_help.split("\n").map((line) => `    ${printable(line)}`)]
      : []),
  ];
  return lines.length === 0 ? "" : `\n${printable(recipe_id ?? "")}\n${lines.join("\n")}\n`;
}

function paramHelp(param: Param): string {
  const { name, type, minimum, maximum, pattern, description } = param;
  const range = [
    ...(minimum === undefined ? [] : [`from ${minimum}`]),
    ...(maximum === undefined ? [] : [`to ${maximum}`]),
  ];
  const facts = [
    param.enum ? param.enum.join("|") : type,
    ...(range.length === 0 ? [] : [range.join(" ")]),
    ...(pattern === undefined ? [] : [`matching ${pattern}`]),
    ...(param.default === undefined ? [] : [`default ${param.default}`]),
    ...(param.required ? ["required"] : []),
  ];
  return printable(`${name}=… (${facts.join(", ")})${description === undefined ? "" : `  ${description}`}`);
}
