import { resolve } from "node:path";

import { findNodeAtLocation, type Node } from "jsonc-parser";
import * as z from "zod";

import { RECIPE_ID } from "../protocol/recipe.ts";
import { DEFAULT_ERROR_MARKERS } from "./error-markers.ts";
import { fieldFaults, type Place } from "./field-fault.ts";
import { type JsoncTree, parseJsonc, valueOf } from "./jsonc.ts";
import type { RecipeParam } from "./params.ts";
import { NODE_WORD, RecipeEntry, Regex, REQUIRED_FIELDS } from "./recipe-entry.ts";

/** A recipe with its paths made absolute and its markers compiled. */
export interface CatalogueRecipe extends Omit<RecipeEntry, "log_dir" | "error_markers"> {
  log_dir: string | undefined;
  error_markers: readonly RegExp[];
  params: RecipeParam[];
  /** What a run of it may use at most, of `memory_max`, `cpu_max` and `pids_max`. */
  limits?: { memoryMax?: number; cpuMax?: number; pidsMax?: number };
}

export interface Catalogue {
  recipes: ReadonlyMap<string, CatalogueRecipe>;
  /** For runs without a recipe: the lines at the end of a log that mean failure. */
  error_markers: readonly RegExp[];
  /** What is wrong with entries of the file: such a recipe cannot be launched, the others can. */
  faults: readonly RecipeFault[];
}

export interface RecipeFault {
  /** Undefined for an entry without a valid id. */
  recipeId: string | undefined;
  /** The line of the file, from 1. */
  line: number;
  /** A sentence without a full stop, which names recipe, line and field. */
  message: string;
}

/** What the file has next to its recipes. */
const RestOfFile = z.strictObject({ error_markers: z.array(Regex).optional() });

interface Entry {
  node: Node;
  value: unknown;
  /** What is wrong with the entry as JSON. */
  fault: string | undefined;
}

/**
 * Parses the text of a recipes file: JSON, in which comments, trailing commas and a byte order mark are allowed. An entry that is
 * wrong costs its own recipe. Throws an Error when the text as a whole cannot be used, or when none of its recipes is valid; its
 * message says what is wrong where.
 */
export function parseCatalogue(text: string, folder: string): Catalogue {
  const tree = parseJsonc(text);
  const { entries, rest } = splitFile(tree);
  const markers = markersOf(rest, tree);
  const recipes = new Map<string, CatalogueRecipe>();
  const faults: RecipeFault[] = [];
  for (const [index, entry] of entries.entries()) {
    const found = faultsOf(entry, entries, tree).map(({ line, message }) => ({
      recipeId: idOf(entry),
      line,
      message: `recipe ${idOf(entry) ?? `${index + 1} (without a valid recipe_id)`}, line ${line}: ${message}`,
    }));
    faults.push(...found);
    if (found.length > 0) continue;
    const recipe = RecipeEntry.parse(entry.value);
    recipes.set(recipe.recipe_id, absolute(recipe, folder, markers));
  }
  if (recipes.size === 0 && faults.length > 0) throw new Error(describeFaults(faults));
  return { recipes, error_markers: markers, faults };
}

/** The most faults that one message lists. */
const MAX_LISTED = 5;

/** Faults as one sentence without a full stop. */
export function describeFaults(faults: readonly RecipeFault[]): string {
  const listed = faults.slice(0, MAX_LISTED).map(({ message }) => message);
  const more = faults.length - listed.length;
  return listed.join("; ") + (more > 0 ? `; and ${more} more` : "");
}

/** The patterns of the shipped error markers. */
export function defaultMarkers(): RegExp[] {
  return DEFAULT_ERROR_MARKERS.map((source) => new RegExp(source, "u"));
}

function splitFile({ root }: JsoncTree): { entries: Entry[]; rest: Node } {
  const list = root.type === "object" ? findNodeAtLocation(root, ["recipes"]) : undefined;
  if (list?.type !== "array") {
    throw new Error('it must be an object with a list `recipes`, such as {"recipes": []}');
  }
  return { entries: (list.children ?? []).map(readEntry), rest: root };
}

function readEntry(node: Node): Entry {
  try {
    return { node, value: valueOf(node), fault: undefined };
  } catch (error) {
    return { node, value: undefined, fault: (error as Error).message };
  }
}

function markersOf(root: Node, tree: JsoncTree): readonly RegExp[] {
  // Without the entries, whose duplicates are faults of their recipes.
  const others = (root.children ?? []).filter(({ children }) => children?.[0]?.value !== "recipes");
  if (others.length < (root.children ?? []).length - 1) throw new Error("field `recipes` is a duplicate");
  const value = valueOf({ ...root, children: others });
  const parsed = RestOfFile.safeParse(value);
  if (parsed.success) return parsed.data.error_markers ?? defaultMarkers();
  const [first] = fieldFaults(parsed.error.issues, value, ["recipes", "error_markers"]);
  throw new Error(`line ${lineOf(root, first!.place, tree)}: ${first!.message}`);
}

function faultsOf(entry: Entry, all: readonly Entry[], tree: JsoncTree): { line: number; message: string }[] {
  const { node, value, fault } = entry;
  if (fault !== undefined) return [{ line: tree.lineOf(node), message: fault }];
  const id = idOf(entry);
  const twin = id === undefined ? undefined : all.find((other) => other !== entry && idOf(other) === id);
  if (twin) {
    const message = `recipe_id ${id} is a duplicate of line ${tree.lineOf(twin.node)}; none of them can be launched`;
    return [{ line: tree.lineOf(node), message }];
  }
  const parsed = RecipeEntry.safeParse(value);
  if (parsed.success) return [];
  const found = fieldFaults(parsed.error.issues, value, Object.keys(RecipeEntry.shape));
  return found.map(({ place, message }) => ({
    line: lineOf(node, place, tree),
    message: REQUIRED_FIELDS.some((field) => message === `\`${field}\` is missing`)
      ? `${message} (each recipe needs ${REQUIRED_FIELDS.join(", ")})`
      : message,
  }));
}

function idOf({ value }: Entry): string | undefined {
  const id = (value as { recipe_id?: unknown } | null | undefined)?.recipe_id;
  return typeof id === "string" && RECIPE_ID.test(id) ? id : undefined;
}

/** The line of the value, or of what it is missing in. */
function lineOf(root: Node, place: Place, tree: JsoncTree): number {
  for (let length = place.length; length > 0; length--) {
    const found = findNodeAtLocation(root, place.slice(0, length));
    if (found) return tree.lineOf(found);
  }
  return tree.lineOf(root);
}

function absolute(recipe: RecipeEntry, folder: string, markers: readonly RegExp[]): CatalogueRecipe {
  const cwd = resolve(folder, recipe.cwd);
  return {
    ...recipe,
    command: recipe.command.map((word) => (word === NODE_WORD ? process.execPath : word)),
    cwd,
    log_dir: recipe.log_dir === undefined ? undefined : resolve(cwd, recipe.log_dir),
    error_markers: recipe.error_markers ?? markers,
    limits: {
      ...(recipe.memory_max !== undefined && { memoryMax: recipe.memory_max }),
      ...(recipe.cpu_max !== undefined && { cpuMax: recipe.cpu_max }),
      ...(recipe.pids_max !== undefined && { pidsMax: recipe.pids_max }),
    },
  };
}
