import * as z from "zod";

import { RecipeId } from "../protocol/recipe.ts";
import { unexpandedPath, unexpandedValue } from "./unexpanded.ts";
import { ParamEntry, repeatedParam } from "./params.ts";
import { CpuCount, MemorySize, PidCount } from "../protocol/resources.ts";

/** In a command: the path of the Node that runs the agent. */
export const NODE_WORD = "{node}";

/** A regular expression, compiled. */
export const Regex = z.string().transform((source, context) => {
  try {
    return new RegExp(source, "u");
  } catch (error) {
    context.addIssue({
      code: "custom",
      message: error instanceof Error ? error.message : "is not a pattern",
    });
    return z.NEVER;
  }
});

const Word = z.string().refine((word) => !word.includes("\0"), "must not contain a NUL character");

/** A path or a value, if `unexpanded` finds nothing in it. */
function literal(unexpanded: (text: string) => string | undefined, schema: z.ZodString) {
  return schema.superRefine((text, context) => {
    const message = unexpanded(text);
    if (message !== undefined) context.addIssue({ code: "custom", message });
  });
}

const Path = literal(unexpandedPath, Word.min(1));

/** One entry of the recipes file. */
export const RecipeEntry = z.strictObject({
  recipe_id: RecipeId,
  title: z.string().min(1).max(200),
  description: z.string().max(10_000),
  command: z
    .array(Word)
    .min(1)
    .superRefine(([program = ""], context) => {
      const message = program === NODE_WORD ? undefined : unexpandedPath(program);
      if (message !== undefined) context.addIssue({ code: "custom", path: [0], message });
    }),
  cwd: Path.default("."),
  log_dir: Path.optional(),
  env: z
    .record(
      z
        .string()
        .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, "is not the name of a variable: letters, digits and underscores"),
      literal(unexpandedValue, Word),
    )
    .default({}),
  terminal: z.boolean().default(false),
  timeout_seconds: z.int().min(1).optional(),
  max_running: z.int().min(1).optional(),
  keep_days: z.int().min(0).max(36_500).optional(),
  memory_max: MemorySize.optional(),
  cpu_max: CpuCount.optional(),
  pids_max: PidCount.optional(),
  kill_left_behind: z.boolean().optional(),
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
export type RecipeEntry = z.infer<typeof RecipeEntry>;

/** The fields that every entry needs. */
export const REQUIRED_FIELDS = ["recipe_id", "title", "description", "command"] as const;
