import * as z from "zod";

import { INT64 } from "./integers.ts";

export const RECIPE_ID = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$/;

export const RecipeId = z
  .string()
  .regex(
    RECIPE_ID,
    "must be 1-100 letters, digits, dots, dashes or underscores, starting with a letter or digit",
  );

/** The longest value of a parameter, in UTF-16 units. */
export const MAX_PARAM_LENGTH = 4_096;
const PARAM_NAME = /^[A-Za-z][A-Za-z0-9_-]{0,63}$/;
/** `--limit`, `-n`, and `-limit` for the programs that take that. */
const PARAM_FLAG = /^--?[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;

export const ParamType = z.enum(["string", "integer", "number", "boolean", "enum"]);
export type ParamType = z.infer<typeof ParamType>;

export const ParamValue = z
  .union([z.string(), z.number(), z.boolean()], "must be a string, a number or a boolean")
  .meta({ id: "ParamValue", description: "The value of a parameter, in the type that the recipe gives it." });
export type ParamValue = z.infer<typeof ParamValue>;

export const ParamName = z
  .string()
  .regex(PARAM_NAME, "must be 1-64 letters, digits, dashes or underscores, starting with a letter");
export const ParamFlag = z.string().regex(PARAM_FLAG, "must look like --limit or -n");

/** A recipe's parameter, as clients see it: enough to draw a form of it. */
export const Param = z
  .object({
    name: ParamName.meta({ description: "Its name in `params` of a launch.", example: "limit" }),
    flag: ParamFlag.meta({ description: "The option of the command that it becomes.", example: "--limit" }),
    type: ParamType,
    required: z.boolean(),
    description: z.string().optional().meta({ example: "Stop after this number of records." }),
    enum: z.array(z.string()).optional().meta({ description: "The values of an `enum`." }),
    // Without a description: with one, the reference would become an allOf.
    default: ParamValue.optional(),
    pattern: z.string().optional().meta({
      description: "A regular expression that the whole of a `string` has to match.",
    }),
    minimum: z.number().optional().meta({ description: "The least `integer` or `number`." }),
    maximum: z.number().optional().meta({ description: "The greatest `integer` or `number`." }),
  })
  .meta({
    id: "RecipeParam",
    description: "A parameter; `default` is the value of a launch that gives none.",
  });
export type Param = z.infer<typeof Param>;

export const Recipe = z
  .object({
    recipe_id: RecipeId.meta({ example: "build_all_extra_features" }),
    title: z.string(),
    description: z.string(),
    terminal: z.boolean().meta({ description: "Runs under a pseudo-terminal." }),
    timeout_seconds: z
      .int()
      .nullable()
      .meta({ ...INT64, description: "A run is stopped after this time." }),
    max_running: z
      .int()
      .nullable()
      .meta({ ...INT64, description: "The limit of concurrent runs of this recipe." }),
    args_help: z.string().nullable().meta({
      description: "What `args` may contain, in the operator's words.",
      example: "--limit N  stop after N records",
    }),
    params: z.array(Param).meta({ description: "The parameters that `params` of a launch may have." }),
  })
  .meta({ id: "Recipe" });
export type Recipe = z.infer<typeof Recipe>;

export const RecipeList = z.object({ recipes: z.array(Recipe) }).meta({ id: "RecipeList" });
export type RecipeList = z.infer<typeof RecipeList>;
