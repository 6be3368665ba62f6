import type { Param } from "../../host-agent/protocol/recipe.ts";
import { isProblem } from "../client/hub-error.ts";
import type { Api } from "./api.ts";
import { usageError } from "./exit.ts";

/**
 * The values of `--param name=value`, each in the type that the list of recipes names. A key
 * without the scope to read the list gets numbers and booleans by their look. The Hub validates them.
 */
export async function readParams(
  api: Api,
  recipeId: string,
  texts: readonly string[],
): Promise<Record<string, unknown>> {
  const types = new Map((await paramsOf(api, recipeId)).map(({ name, type }) => [name, type]));
  const values = new Map<string, unknown>();
  for (const text of texts) {
    const at = text.indexOf("=");
    if (at < 1) throw usageError(`--param ${JSON.stringify(text)} must look like name=value`);
    const name = text.slice(0, at);
    if (values.has(name)) throw usageError(`duplicate --param ${name}`);
    values.set(name, valueOf(text.slice(at + 1), types.get(name)));
  }
  return Object.fromEntries(values);
}

async function paramsOf(api: Api, recipeId: string): Promise<readonly Param[]> {
  try {
    const { recipes } = await api.listRecipes();
    return recipes.find(({ recipe_id }) => recipe_id === recipeId)?.params ?? [];
  } catch (error) {
    if (isProblem(error, "insufficient_scope")) return [];
    throw error;
  }
}

const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?$/;

/** A text that does not fit its type stays a string: the Hub's answer reports what is wrong with it. */
function valueOf(text: string, type: Param["type"] | undefined): unknown {
  if (type === "string" || type === "enum") return text;
  if (type !== "boolean" && NUMBER.test(text)) return Number(text);
  const isBoolean = type === "boolean" || type === undefined;
  return isBoolean && (text === "true" || text === "false") ? text === "true" : text;
}
