import type { Param, Recipe } from "../../../host-agent/protocol/recipe.ts";
import { readCatalogue } from "../../client/catalogue.ts";
import { withRetries } from "../../client/retry.ts";
import { renderTable } from "../../client/table.ts";
import type { Context } from "../context.ts";
import { EXIT } from "../exit.ts";
import { printable } from "../printable.ts";

/** Lists the recipes, and reports what is wrong with the operator's list. Returns the exit code. */
export async function showRecipes({ api: openApi, output, json, retries }: Context): Promise<number> {
  const api = await openApi();
  const { problems, ...list } = await withRetries(() => readCatalogue(api), retries("read"));
  for (const problem of problems) output.warn(`the Hub reports: ${problem}. Ask its operator`);
  if (json) await output.json(list);
  else if (list.recipes.length > 0) {
    const rows = list.recipes.map(({ recipe_id, title, description }) =>
      [recipe_id, title, description].map(printable),
    );
    await output.write(await renderTable(["RECIPE", "TITLE", "DESCRIPTION"], rows, output.width));
    for (const recipe of list.recipes) await output.write(launchHelp(recipe));
  } else if (problems.length === 0) output.note("This Hub has no recipes.");
  return list.recipes.length === 0 && problems.length > 0 ? EXIT.unavailable : EXIT.ok;
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
