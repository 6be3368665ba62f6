import { dirname, resolve } from "node:path";

import * as z from "zod";

import { sha256 } from "../system/sha256.ts";
import type { Log } from "../system/log-line.ts";
import { watchFile } from "../system/watched-file.ts";
import { DEFAULT_ERROR_MARKERS } from "./error-markers.ts";
import { ParamEntry, type RecipeParam, publicParam, repeatedParam } from "./params.ts";
import { type Recipe, RecipeId } from "../protocol/recipe.ts";
import { parseStrictJson } from "../protocol/strict-json.ts";

// What belongs in this folder: what the operator allows clients to run - recipes with their parameters (recipes.ts, params.ts),
// scripts under the roots (scripts.ts, script-roots.ts) - and how `args` is split. May import system/ and protocol/.

const Regex = z.string().transform((source, context) => {
  try {
    return new RegExp(source, "u");
  } catch (error) {
    context.addIssue({ code: "custom", message: error instanceof Error ? error.message : "not a pattern" });
    return z.NEVER;
  }
});
const Word = z.string().refine((word) => !word.includes("\0"), "must not contain a NUL character");

/** One entry of the recipes file. */
const RecipeEntry = z.strictObject({
  recipe_id: RecipeId,
  title: z.string().min(1).max(200),
  description: z.string().max(10_000),
  command: z.array(Word).min(1),
  cwd: Word.min(1).default("."),
  log_dir: Word.min(1).optional(),
  env: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), Word).default({}),
  terminal: z.boolean().default(false),
  timeout_seconds: z.int().min(1).optional(),
  max_running: z.int().min(1).optional(),
  error_markers: z.array(Regex).optional(),
  args_help: z.string().min(1).max(10_000).optional(),
  params: z
    .array(ParamEntry)
    .max(100)
    .default([])
    .superRefine((params, context) => {
      const repeated = repeatedParam(params);
      if (repeated !== undefined) context.addIssue({ code: "custom", message: repeated });
    }),
});

const RecipesFile = z.strictObject({
  recipes: z.array(RecipeEntry),
  error_markers: z.array(Regex).optional(),
});

/** A recipe with its paths made absolute and its markers compiled. */
export interface CatalogueRecipe extends Omit<z.infer<typeof RecipeEntry>, "log_dir" | "error_markers"> {
  log_dir: string | undefined;
  error_markers: readonly RegExp[];
  params: RecipeParam[];
}

export interface Catalogue {
  recipes: ReadonlyMap<string, CatalogueRecipe>;
  /** For runs without a recipe: the lines at the end of a log that mean failure. */
  error_markers: readonly RegExp[];
}

export type Recipes = ReturnType<typeof openRecipes>;

/** Called after each read of the file, with the SHA-256 of the text that is in use from then on. */
export type OnRead = (outcome: "loaded" | "refused", sha256: string | null) => void;

/** In a command: the path of the Node that runs the agent. */
const NODE_WORD = "{node}";

/**
 * The recipes file at `path`, read again when it has changed. When it is
 * missing or malformed, the last good catalogue stays in use and `problem()` reports why.
 * `current` rejects when the host has no descriptors to read it for the first time.
 */
export function openRecipes(path: string, log: Log, onRead: OnRead = () => {}) {
  let isRead = false;
  let problem: string | undefined;
  const initial: Catalogue = { recipes: new Map(), error_markers: compile(DEFAULT_ERROR_MARKERS) };
  const file = watchFile<{ catalogue: Catalogue; sha256: string | null }>(path, {
    initial: { catalogue: initial, sha256: null },
    parse: (text) => ({ catalogue: parseCatalogue(text, dirname(path)), sha256: sha256(text) }),
    onLoaded(loaded) {
      isRead = true;
      if (problem !== undefined) {
        log({ level: "info", event: "recipes_file_mended" });
      }
      problem = undefined;
      onRead("loaded", loaded.sha256);
    },
    onFault({ error, isPassing }, last) {
      // Nothing is known about the file: the next look tries again.
      if (isPassing && !isRead) throw error;
      if (isPassing) return last;
      isRead = true;
      problem = `the recipes file cannot be used: ${reasonOf(error)}`;
      // With its path and the fault: /healthz, which is public, says only that there is one.
      log({ level: "error", event: "recipes_file_broken", error: problem });
      onRead("refused", null);
      return last;
    },
  });

  async function current(): Promise<Catalogue> {
    return (await file.current()).catalogue;
  }

  return {
    current,
    /** What is wrong with the file, with its path; undefined when all is well. */
    async problem(): Promise<string | undefined> {
      await current();
      return problem;
    },
  };
}

/** What a banner prints after the file's name while the file could not be used. */
export function noRecipes(problem: string): string {
  return ` - NO RECIPES: ${problem}; it is read again when it changes`;
}

/** Parses the text of a recipes file. Throws an Error whose message says what is wrong where. */
export function parseCatalogue(text: string, folder: string): Catalogue {
  const parsed = RecipesFile.safeParse(parseStrictJson(text));
  if (!parsed.success) throw new Error(z.prettifyError(parsed.error));
  const markers = parsed.data.error_markers ?? compile(DEFAULT_ERROR_MARKERS);
  const recipes = new Map<string, CatalogueRecipe>();
  for (const entry of parsed.data.recipes) {
    if (recipes.has(entry.recipe_id)) throw new Error(`recipe_id ${entry.recipe_id} is a duplicate`);
    const cwd = resolve(folder, entry.cwd);
    recipes.set(entry.recipe_id, {
      ...entry,
      command: entry.command.map((word) => (word === NODE_WORD ? process.execPath : word)),
      cwd,
      log_dir: entry.log_dir === undefined ? undefined : resolve(cwd, entry.log_dir),
      error_markers: entry.error_markers ?? markers,
    });
  }
  return { recipes, error_markers: markers };
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

function compile(sources: readonly string[]): RegExp[] {
  return sources.map((source) => new RegExp(source, "u"));
}
