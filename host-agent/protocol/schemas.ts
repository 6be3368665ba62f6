import * as z from "zod";

import { MAX_GRACE_SECONDS, RUN_ID, SIGNALS, SOURCES, STATUSES } from "./limits.ts";

export { MAX_GRACE_SECONDS, MAX_LIST_LIMIT, MAX_LOG_PAGE_BYTES, RUN_ID } from "./limits.ts";

export const RECIPE_ID = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$/;

/** The longest `args` string, in UTF-16 units: far below what execve(2) takes, far above what people type. */
export const MAX_ARGS_LENGTH = 32_768;
/** PATH_MAX of Linux, with its NUL. */
export const MAX_PATH_LENGTH = 4_095;

export const Source = z.enum(SOURCES);
export type Source = z.infer<typeof Source>;

export const RunStatus = z
  .enum(STATUSES)
  .meta({ id: "RunStatus", description: "Where a run stands. Only `running` ever changes again." });
export type RunStatus = z.infer<typeof RunStatus>;

export const Signal = z.enum(SIGNALS);
export type Signal = z.infer<typeof Signal>;

const noNul = (value: string) => !value.includes("\0");

export const RunId = z.string().regex(RUN_ID, "must look like run_a1b2c3d4e5f6");

export const Args = z
  .string()
  .max(MAX_ARGS_LENGTH, `must be at most ${MAX_ARGS_LENGTH} characters`)
  .refine(noNul, "must not contain a NUL character");

export const HostPath = z
  .string()
  .min(1, "must not be empty")
  .max(MAX_PATH_LENGTH, `must be at most ${MAX_PATH_LENGTH} characters`)
  .refine(noNul, "must not contain a NUL character");

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

export const ParamValue = z.union(
  [z.string(), z.number(), z.boolean()],
  "must be a string, a number or a boolean",
);
export type ParamValue = z.infer<typeof ParamValue>;

export const ParamName = z
  .string()
  .regex(PARAM_NAME, "must be 1-64 letters, digits, dashes or underscores, starting with a letter");
export const ParamFlag = z.string().regex(PARAM_FLAG, "must look like --limit or -n");

/** What clients may know of a recipe's parameter: enough to draw a form of it. */
export const Param = z
  .object({
    name: ParamName.meta({ description: "Its name in `params` of a launch.", example: "limit" }),
    flag: ParamFlag.meta({ description: "The option that it becomes.", example: "--limit" }),
    type: ParamType,
    required: z.boolean(),
    description: z.string().optional().meta({ example: "Stop after so many records." }),
    enum: z.array(z.string()).optional().meta({ description: "The values of an `enum`." }),
    default: ParamValue.optional().meta({ description: "The value of a launch that gives none." }),
    pattern: z.string().optional().meta({
      description: "A regular expression that the whole of a `string` has to match.",
    }),
    minimum: z.number().optional().meta({ description: "The least `integer` or `number`." }),
    maximum: z.number().optional().meta({ description: "The greatest `integer` or `number`." }),
  })
  .meta({ id: "RecipeParam" });
export type Param = z.infer<typeof Param>;

const Params = z
  .preprocess(
    (value, context) => {
      // A record would pass over this name in silence.
      if (typeof value === "object" && value !== null && Object.hasOwn(value, "__proto__")) {
        context.addIssue({ code: "custom", path: ["__proto__"], message: "is not known here" });
      }
      return value;
    },
    z.record(z.string(), ParamValue),
  )
  .meta({
    description:
      "Values of the recipe's parameters, by name. They become words of the command, before `args`; a boolean that is true becomes its flag alone.",
    type: "object",
    additionalProperties: {
      anyOf: [{ type: "string" }, { type: "number" }, { type: "boolean" }],
    },
    example: { limit: 5000 },
  });

export const PipelineSpec = z
  .strictObject({
    recipe_id: RecipeId.meta({ description: "A recipe of the list.", example: "build_all_extra_features" }),
    args: Args.default("").meta({
      description:
        "Appended to the recipe's command. Split into words by POSIX quoting rules and never evaluated: `;`, `|`, `$`, backticks and `*` are ordinary characters.",
      example: "--limit 5000",
    }),
    params: Params.optional(),
    terminal: z
      .boolean()
      .optional()
      .meta({ description: "Run under a pseudo-terminal, so that lines appear at once." }),
  })
  .meta({ id: "PipelineSpec", example: { recipe_id: "build_all_extra_features", args: "--limit 5000" } });
export type PipelineSpec = z.infer<typeof PipelineSpec>;

export const ScriptSpec = z
  .strictObject({
    path: HostPath.meta({
      description: "Absolute path of a `.sh` file inside one of the operator's script roots.",
      example: "/home/mark/scripts/my_job.sh",
    }),
    args: Args.default("").meta({
      description: "The script's arguments, split into words by POSIX quoting rules and never evaluated.",
      example: "--mode full",
    }),
    terminal: z
      .boolean()
      .optional()
      .meta({ description: "Run under a pseudo-terminal, so that lines appear at once." }),
  })
  .meta({ id: "ScriptSpec", example: { path: "/home/mark/scripts/my_job.sh", args: "--mode full" } });
export type ScriptSpec = z.infer<typeof ScriptSpec>;

/** The longest label, in characters. */
export const MAX_LABEL_LENGTH = 200;
/** Control characters, and the two that break a line without being one. */
const UNPRINTABLE = /[\p{Cc}\u2028\u2029]/u;

export const Label = z
  .string()
  .min(1, "must not be empty")
  .refine(
    (label) => Array.from(label).length <= MAX_LABEL_LENGTH,
    `must be at most ${MAX_LABEL_LENGTH} characters`,
  )
  .refine((label) => !UNPRINTABLE.test(label), "must not contain control characters")
  .refine((label) => label.isWellFormed(), "must be well-formed Unicode");

export const MAX_CALLBACK_URL_LENGTH = 2_048;

export const CallbackUrl = z
  .string()
  .min(1, "must not be empty")
  .max(MAX_CALLBACK_URL_LENGTH, `must be at most ${MAX_CALLBACK_URL_LENGTH} characters`);

/** What a launch may say beside what is to run. */
export const LaunchOptions = z.object({
  label: Label.optional(),
  callback_url: CallbackUrl.optional(),
});
export type LaunchOptions = z.infer<typeof LaunchOptions>;

/** The record of a run: what the host knows about it at the moment of the answer. */
export const RunRecord = z
  .object({
    run_id: RunId.meta({ example: "run_a1b2c3d4e5f6" }),
    source: Source,
    spec: z.union([PipelineSpec, ScriptSpec]).meta({ description: "What was asked for." }),
    pid: z
      .string()
      .nullable()
      .meta({ description: "Process id on the host; null if nothing was ever started.", example: "3505615" }),
    log_path: z.string().meta({
      description: "Where the log lies on the host.",
      example: "/home/mark/serveraihub/eval/logs/build_all_extra_features__20260515_104444.log",
    }),
    cmd: z.string().meta({
      description: "The command line, quoted for a shell where a word needs it.",
      example: "python build_all_extra_features.py --limit 5000",
    }),
    started_at: z.int().meta({ description: "Epoch seconds.", example: 1_778_856_284 }),
    ended_at: z
      .int()
      .nullable()
      .meta({ description: "Epoch seconds; null until the process is really gone.", example: null }),
    status: RunStatus,
    status_reason: z.string().meta({
      description: "Why the status is what it is, in one sentence.",
      example: "The process is alive.",
    }),
    exit_code: z.int().nullable().meta({
      description:
        "The command's exit code, 128+n after signal n; null while it runs or when it is not known.",
      example: null,
    }),
    signal: z
      .string()
      .nullable()
      .meta({ description: "The signal that ended the command, if one did.", example: null }),
    spec_sha256: z.string().nullable().meta({
      description: "SHA-256 of the script's bytes as they were at the launch; null for a recipe.",
      example: null,
    }),
    label: z
      .string()
      .nullable()
      .meta({ description: "The label of the launch.", example: "nightly evaluation" }),
    key_name: z.string().meta({ description: "The API key that launched it.", example: "acme-prod" }),
  })
  .meta({ id: "Run" });
export type RunRecord = z.infer<typeof RunRecord>;

export const RunList = z
  .object({
    runs: z.array(RunRecord),
    next_cursor: z
      .string()
      .nullable()
      .meta({ description: "Pass as `cursor` for the next page; null on the last one." }),
  })
  .meta({ id: "RunList" });
export type RunList = z.infer<typeof RunList>;

export const Recipe = z
  .object({
    recipe_id: RecipeId.meta({ example: "build_all_extra_features" }),
    title: z.string(),
    description: z.string(),
    terminal: z.boolean().meta({ description: "Runs under a pseudo-terminal." }),
    timeout_seconds: z.int().nullable().meta({ description: "The run is stopped after this long." }),
    max_running: z.int().nullable().meta({ description: "At most so many runs of it at once." }),
    args_help: z.string().nullable().meta({
      description: "What `args` may hold, in the operator's words.",
      example: "--limit N  stop after N records",
    }),
    params: z.array(Param).meta({ description: "What `params` of a launch may hold." }),
  })
  .meta({ id: "Recipe" });
export type Recipe = z.infer<typeof Recipe>;

export const RecipeList = z.object({ recipes: z.array(Recipe) }).meta({ id: "RecipeList" });
export type RecipeList = z.infer<typeof RecipeList>;

export const ScriptEntry = z
  .object({
    path: z.string().meta({ example: "/home/mark/scripts/my_job.sh" }),
    name: z.string().meta({ example: "my_job.sh" }),
    size: z.int().meta({ description: "Bytes." }),
    modified_at: z.int().meta({ description: "Epoch seconds." }),
  })
  .meta({ id: "Script" });
export type ScriptEntry = z.infer<typeof ScriptEntry>;

export const ScriptList = z
  .object({
    scripts: z.array(ScriptEntry),
    truncated: z.boolean().meta({ description: "True when there are more scripts than the list holds." }),
  })
  .meta({ id: "ScriptList" });
export type ScriptList = z.infer<typeof ScriptList>;

export const ScriptContent = z
  .object({
    path: z.string().meta({ description: "The real path, symbolic links resolved." }),
    content: z.string().meta({ description: "The source; bytes that are not UTF-8 become U+FFFD." }),
    size: z.int().meta({ description: "Bytes." }),
  })
  .meta({ id: "ScriptContent" });
export type ScriptContent = z.infer<typeof ScriptContent>;

export const KillOrder = z
  .strictObject({
    signal: Signal.default("SIGTERM").meta({ description: "What to send to the whole process tree." }),
    grace_seconds: z.int().min(0).max(MAX_GRACE_SECONDS).optional().meta({
      description: "SIGKILL whatever is left after so many seconds. Without it nothing follows the signal.",
      example: 10,
    }),
  })
  .meta({ id: "KillOrder" });
export type KillOrder = z.infer<typeof KillOrder>;

/** The edge's id of the request that an order comes from: it goes into the audit log. */
export const RequestId = z.string().regex(/^[\w.:-]{1,128}$/);

/** Whatever is launched, and for whom. */
const PipelineLaunch = LaunchOptions.extend({
  source: z.literal("pipeline"),
  spec: PipelineSpec,
  key_name: z.string().min(1).max(200),
  request_id: RequestId.optional(),
}).strict();
const ScriptLaunch = LaunchOptions.extend({
  source: z.literal("script"),
  spec: ScriptSpec,
  key_name: z.string().min(1).max(200),
  request_id: RequestId.optional(),
}).strict();

/** What a preview is asked for: a launch without the identity of one. */
export const PreviewOrder = z.discriminatedUnion("source", [PipelineLaunch, ScriptLaunch]);
export type PreviewOrder = z.infer<typeof PreviewOrder>;

const LaunchIdentity = {
  launch_token: z.string().regex(/^[0-9a-f]{64}$/),
  fingerprint: z.string().regex(/^[0-9a-f]{64}$/),
};

/** What the edge asks the agent to launch; `launch_token` is the identity of the launch, not of the attempt. */
export const LaunchOrder = z.discriminatedUnion("source", [
  PipelineLaunch.extend(LaunchIdentity),
  ScriptLaunch.extend(LaunchIdentity),
]);
export type LaunchOrder = z.infer<typeof LaunchOrder>;

/** What a launch would come to, had it not been a dry run. */
export const LaunchPreview = z
  .object({
    dry_run: z.literal(true),
    source: Source,
    would_start: z.boolean().meta({ description: "Whether this launch would start a run now." }),
    reason: z.string().nullable().meta({
      description: "Why it would not, in one sentence; null when it would.",
      example: null,
    }),
    code: z.string().nullable().meta({
      description: "The `code` of the problem that the launch would answer; null when it would start.",
      example: null,
    }),
    argv: z.array(z.string()).meta({
      description: "The words of the command; the first is the program's path, where it was found.",
      example: ["/usr/bin/python3", "build_all_extra_features.py", "--limit", "5000"],
    }),
    cmd: z.string().meta({ description: "The command line as the record would show it." }),
    cwd: z.string().meta({ description: "The folder it would start in." }),
    log_path_pattern: z.string().meta({
      description: "Where its log would lie, with the local time of the launch.",
      example: "/home/mark/serveraihub/eval/logs/build_all_extra_features__YYYYMMDD_HHMMSS.log",
    }),
    environment: z.array(z.string()).meta({
      description: "The names of its environment variables; their values are not shown.",
    }),
    terminal: z.boolean().meta({ description: "Whether it would run under a pseudo-terminal." }),
    spec_sha256: z
      .string()
      .nullable()
      .meta({ description: "SHA-256 of the script's bytes as they are now; null for a recipe." }),
    limits: z
      .object({
        timeout_seconds: z.int().nullable().meta({ description: "It would be stopped after this long." }),
        max_running: z.int().nullable().meta({ description: "At most so many runs of this recipe at once." }),
        running: z.int().nullable().meta({ description: "Runs of this recipe now; null for a script." }),
        host_max_running: z.int().meta({ description: "At most so many runs on the host at once." }),
        host_running: z.int().meta({ description: "Runs on the host now." }),
      })
      .meta({ description: "What would hold it back or end it." }),
  })
  .meta({ id: "LaunchPreview" });
export type LaunchPreview = z.infer<typeof LaunchPreview>;

export const LaunchAnswer = z.object({ run: RunRecord, replayed: z.boolean() });
export type LaunchAnswer = z.infer<typeof LaunchAnswer>;

export const AgentHealth = z.object({
  status: z.enum(["ok", "degraded"]),
  problems: z.array(z.string()),
  running: z.int(),
});
export type AgentHealth = z.infer<typeof AgentHealth>;

/** The headers that describe a page of a log; the body is the page's bytes. */
export const LOG_HEADERS = {
  offset: "hub-log-offset",
  size: "hub-log-size",
  more: "hub-log-more",
} as const;

export const DEFAULT_LOG_PAGE_BYTES = 4_096;
export const MAX_LOG_WAIT_SECONDS = 30;
/** For how long a request may wait for a run's end. */
export const MAX_RUN_WAIT_SECONDS = 60;
export const DEFAULT_LIST_LIMIT = 50;
export const IDEMPOTENCY_TTL_SECONDS = 3_600;
