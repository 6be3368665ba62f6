import * as z from "zod";

export const RUN_ID = /^run_[0-9a-f]{12}$/;
export const RECIPE_ID = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$/;

/** The longest `args` string, in UTF-16 units: far below what execve(2) takes, far above what people type. */
export const MAX_ARGS_LENGTH = 32_768;
/** PATH_MAX of Linux, with its NUL. */
export const MAX_PATH_LENGTH = 4_095;

export const Source = z.enum(["pipeline", "script"]);
export type Source = z.infer<typeof Source>;

export const RunStatus = z
  .enum(["running", "completed", "failed", "killed", "unknown"])
  .meta({ id: "RunStatus", description: "Where a run stands. Only `running` ever changes again." });
export type RunStatus = z.infer<typeof RunStatus>;

export const Signal = z.enum(["SIGTERM", "SIGINT", "SIGKILL"]);
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

export const PipelineSpec = z
  .strictObject({
    recipe_id: RecipeId.meta({ description: "A recipe of the list.", example: "build_all_extra_features" }),
    args: Args.default("").meta({
      description:
        "Appended to the recipe's command. Split into words by POSIX quoting rules and never evaluated: `;`, `|`, `$`, backticks and `*` are ordinary characters.",
      example: "--limit 5000",
    }),
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

export const MAX_GRACE_SECONDS = 3_600;

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

/** What the edge asks the agent to launch; `launch_token` is the identity of the launch, not of the attempt. */
export const LaunchOrder = z.discriminatedUnion("source", [
  z.strictObject({
    source: z.literal("pipeline"),
    spec: PipelineSpec,
    launch_token: z.string().regex(/^[0-9a-f]{64}$/),
    fingerprint: z.string().regex(/^[0-9a-f]{64}$/),
    key_name: z.string().min(1).max(200),
    request_id: RequestId.optional(),
  }),
  z.strictObject({
    source: z.literal("script"),
    spec: ScriptSpec,
    launch_token: z.string().regex(/^[0-9a-f]{64}$/),
    fingerprint: z.string().regex(/^[0-9a-f]{64}$/),
    key_name: z.string().min(1).max(200),
    request_id: RequestId.optional(),
  }),
]);
export type LaunchOrder = z.infer<typeof LaunchOrder>;

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

export const MAX_LOG_PAGE_BYTES = 1_048_576;
export const DEFAULT_LOG_PAGE_BYTES = 4_096;
export const MAX_LOG_WAIT_SECONDS = 30;
export const MAX_LIST_LIMIT = 500;
export const DEFAULT_LIST_LIMIT = 50;
export const IDEMPOTENCY_TTL_SECONDS = 3_600;
