import * as z from "zod";

import { ParamValue, RecipeId } from "./recipe.ts";

/** The longest `args` string, in UTF-16 units: far below what execve(2) takes, far above what people type. */
export const MAX_ARGS_LENGTH = 32_768;
/** PATH_MAX of Linux, with its NUL. */
export const MAX_PATH_LENGTH = 4_095;

const noNul = (value: string) => !value.includes("\0");

export const Args = z
  .string()
  .max(MAX_ARGS_LENGTH, `must be at most ${MAX_ARGS_LENGTH} characters`)
  .refine(noNul, "must not contain a NUL character");

export const HostPath = z
  .string()
  .min(1, "must not be empty")
  .max(MAX_PATH_LENGTH, `must be at most ${MAX_PATH_LENGTH} characters`)
  .refine(noNul, "must not contain a NUL character");

const Params = z
  .preprocess(
    (value, context) => {
      // A record would pass over this name in silence.
      if (typeof value === "object" && value !== null && Object.hasOwn(value, "__proto__")) {
        context.addIssue({ code: "custom", path: ["__proto__"], message: "unknown field" });
      }
      return value;
    },
    z.record(z.string(), ParamValue),
  )
  .meta({
    description:
      "Values of the recipe's parameters, by name. They become words of the command, before `args`; a boolean that is true becomes its flag alone.",
    type: "object",
    additionalProperties: { $ref: "#/components/schemas/ParamValue" },
    example: { limit: 5000 },
  });

/**
 * For the document: given the type, the generator does not add the default, which makes generators of clients (openapi-typescript
 * for one) take the field for a required one. Its description says what it is when it is left out.
 */
const ARGS_WITHOUT_DEFAULT = { type: "string", maxLength: MAX_ARGS_LENGTH } as const;

/** What a launch of a recipe runs. */
export const PipelineSpec = z.strictObject({
  recipe_id: RecipeId.meta({ description: "A recipe of the list.", example: "build_all_extra_features" }),
  args: Args.meta({
    description:
      "Appended to the recipe's command; nothing if left out. Split into words by POSIX quoting rules and never evaluated: `;`, `|`, `$`, backticks and `*` are ordinary characters.",
    example: "--limit 5000",
  })
    .default("")
    .meta(ARGS_WITHOUT_DEFAULT),
  params: Params.optional(),
  terminal: z
    .boolean()
    .optional()
    .meta({ description: "Run under a pseudo-terminal, so that lines appear at once." }),
});
export type PipelineSpec = z.infer<typeof PipelineSpec>;

/** What a launch of a script runs. */
export const ScriptSpec = z.strictObject({
  path: HostPath.meta({
    description: "Absolute path of a `.sh` file inside one of the operator's script roots.",
    example: "/home/mark/scripts/my_job.sh",
  }),
  args: Args.meta({
    description:
      "The script's arguments, none if left out; split into words by POSIX quoting rules and never evaluated.",
    example: "--mode full",
  })
    .default("")
    .meta(ARGS_WITHOUT_DEFAULT),
  terminal: z
    .boolean()
    .optional()
    .meta({ description: "Run under a pseudo-terminal, so that lines appear at once." }),
});
export type ScriptSpec = z.infer<typeof ScriptSpec>;
