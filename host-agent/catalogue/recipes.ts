import { dirname } from "node:path";

import { sha256 } from "../system/sha256.ts";
import type { Log } from "../system/log-line.ts";
import { watchFile } from "../system/watched-file.ts";
import { publicParam } from "./params.ts";
import type { Recipe } from "../protocol/recipe.ts";
import {
  type Catalogue,
  type CatalogueRecipe,
  defaultMarkers,
  describeFaults,
  parseCatalogue,
} from "./recipes-file.ts";

// What belongs in this folder: what the operator allows clients to run - recipes (recipes.ts and recipes-file.ts, with jsonc.ts,
// recipe-entry.ts, field-fault.ts) and their parameters (params.ts), scripts under the roots (scripts.ts, script-roots.ts) -
// and how `args` is split. May import system/ and protocol/.

export type Recipes = ReturnType<typeof openRecipes>;

/** What is wrong with the recipes file. */
export interface RecipesProblem {
  /** A sentence without a full stop, with paths: for the operator. */
  message: string;
  /** True while the other recipes of the file are in force. */
  isPartial: boolean;
}

/** Called after each read of the file, with the SHA-256 of the text that is in use from then on. */
export type OnRead = (outcome: "loaded" | "refused", sha256: string | null) => void;

/**
 * The recipes file at `path`, read again when it has changed. When it is missing or malformed, the last good catalogue stays in
 * use; when one recipe is wrong, the last good one of that id. `problem()` reports why.
 * `current` rejects when the host has no descriptors to read it for the first time.
 */
export function openRecipes(path: string, log: Log, onRead: OnRead = () => {}) {
  let isRead = false;
  let problem: RecipesProblem | undefined;
  let inForce: Catalogue = { recipes: new Map(), error_markers: defaultMarkers(), faults: [] };
  const file = watchFile<{ catalogue: Catalogue; sha256: string | null }>(path, {
    initial: { catalogue: inForce, sha256: null },
    parse: (text) => ({
      catalogue: withLastGood(parseCatalogue(text, dirname(path)), inForce),
      sha256: sha256(text),
    }),
    onLoaded(loaded) {
      isRead = true;
      const { faults } = loaded.catalogue;
      if (problem !== undefined && faults.length === 0) {
        log({ level: "info", event: "recipes_file_mended" });
      }
      inForce = loaded.catalogue;
      problem = faults.length === 0 ? undefined : { message: partialProblem(inForce), isPartial: true };
      if (problem) log({ level: "error", event: "recipes_file_broken", error: problem.message });
      onRead("loaded", loaded.sha256);
    },
    onFault({ error, isPassing }, last) {
      // Nothing is known about the file: the next look tries again.
      if (isPassing && !isRead) throw error;
      if (isPassing) return last;
      isRead = true;
      problem = { message: `the recipes file cannot be used: ${reasonOf(error)}`, isPartial: false };
      // With its path and the fault: /healthz, which is public, says only that there is one.
      log({ level: "error", event: "recipes_file_broken", error: problem.message });
      onRead("refused", null);
      return last;
    },
  });

  async function current(): Promise<Catalogue> {
    return (await file.current()).catalogue;
  }

  return {
    current,
    /** What is wrong with the file; undefined when all is well. */
    async problem(): Promise<RecipesProblem | undefined> {
      await current();
      return problem;
    },
  };
}

/** What a banner prints after the file's name while there is something wrong with it. */
export function recipesAlarm({ message, isPartial }: RecipesProblem): string {
  return ` - ${isPartial ? "" : "NO RECIPES: "}${message}; it is read again when it changes`;
}

/** What /healthz, which is public, says of it: without paths and names. */
export function publicRecipesProblem({ isPartial }: RecipesProblem): string {
  return isPartial
    ? "the recipes file has recipes that cannot be used; the others are in force"
    : "the recipes file is missing or malformed; the last good one stays";
}

/** A recipe that is wrong now stays as it was last valid. */
function withLastGood(found: Catalogue, last: Catalogue): Catalogue {
  const recipes = new Map(found.recipes);
  for (const { recipeId } of found.faults) {
    const good = recipeId === undefined ? undefined : last.recipes.get(recipeId);
    if (good) recipes.set(good.recipe_id, good);
  }
  return { ...found, recipes };
}

function partialProblem({ faults }: Catalogue): string {
  return `the recipes file has recipes that cannot be used: ${describeFaults(faults)}`;
}

/** On one line, for a banner and a log. */
function reasonOf({ message }: Error): string {
  return message.replaceAll(/\s*\n\s*/g, " ");
}

/** A recipe as clients see it: without its command and without paths. */
export function publicRecipe(recipe: CatalogueRecipe): Recipe {
  return {
    recipe_id: recipe.recipe_id,
    title: recipe.title,
    description: recipe.description,
    terminal: recipe.terminal,
    timeout_seconds: recipe.timeout_seconds ?? null,
    max_running: recipe.max_running ?? null,
    args_help: recipe.args_help ?? null,
    params: recipe.params.map(publicParam),
  };
}
