import * as z from "zod";

import { INT32, INT64 } from "../host-agent/protocol/integers.ts";
import { Label, LaunchOptions, MAX_LABEL_LENGTH } from "../host-agent/protocol/launch.ts";
import { MAX_LIST_LIMIT, MAX_LOG_PAGE_BYTES } from "../host-agent/protocol/limits.ts";
import { DEFAULT_LOG_PAGE_BYTES, MAX_LOG_WAIT_SECONDS } from "../host-agent/protocol/log.ts";
import {
  DEFAULT_LIST_LIMIT,
  RunId,
  RunList,
  RunRecord,
  RunStatus,
  type Source,
} from "../host-agent/protocol/run.ts";
import { HostPath, PipelineSpec, ScriptSpec } from "../host-agent/protocol/spec.ts";

/**
 * A whole number in a query: digits and nothing else, so "", "1e3" and "0x10" are
 * refused.
 */
function count({ min, max }: { min: number; max: number }) {
  const message = `must be a whole number from ${min} to ${max}`;
  return z
    .string()
    .regex(/^\d{1,16}$/, message)
    .transform(Number)
    .pipe(z.int(message).min(min, message).max(max, message));
}

/** The API document writes `?status=&limit=`: an empty parameter counts as omitted. */
function emptyIsAbsent<S extends z.ZodType>(schema: S) {
  return z.preprocess((value) => (value === "" ? undefined : value), schema);
}

/** The body of a launch of a recipe. */
export const PipelineLaunch = z
  .strictObject({ ...PipelineSpec.shape, ...LaunchOptions.shape })
  .meta({ id: "PipelineLaunch" });
export type PipelineLaunch = z.infer<typeof PipelineLaunch>;

/** The body of a launch of a script. */
export const ScriptLaunch = z
  .strictObject({ ...ScriptSpec.shape, ...LaunchOptions.shape })
  .meta({ id: "ScriptLaunch" });
export type ScriptLaunch = z.infer<typeof ScriptLaunch>;

/** What the record of a run shows of its launch: open to further fields, unlike the launch, and always with `args`. */
const PipelineRunSpec = z
  .object({ ...PipelineSpec.shape, args: PipelineSpec.shape.args.unwrap() })
  .meta({ id: "PipelineSpec" });
const ScriptRunSpec = z
  .object({ ...ScriptSpec.shape, args: ScriptSpec.shape.args.unwrap() })
  .meta({ id: "ScriptSpec" });

/** The record of a run of a recipe. A type for each surface, because generated clients read a union of two specs badly or not at all. */
const PipelineRun = RunRecord.extend({ source: z.literal("pipeline"), spec: PipelineRunSpec }).meta({
  id: "PipelineRun",
});
const ScriptRun = RunRecord.extend({ source: z.literal("script"), spec: ScriptRunSpec }).meta({
  id: "ScriptRun",
});

/** The answers of each surface, as the document shows them. */
export const ANSWERS = {
  pipeline: {
    run: PipelineRun,
    list: RunList.extend({ runs: z.array(PipelineRun) }).meta({ id: "PipelineRunList" }),
  },
  script: {
    run: ScriptRun,
    list: RunList.extend({ runs: z.array(ScriptRun) }).meta({ id: "ScriptRunList" }),
  },
} as const satisfies Record<Source, object>;

/** The path of a run. */
export const RunParams = z.strictObject({
  run_id: RunId.meta({ description: "The run's id.", example: "run_a1b2c3d4e5f6" }),
});

/** The query of a list of runs. */
export const ListRunsQuery = z.strictObject({
  status: emptyIsAbsent(z.enum(RunStatus.options).optional()).meta({
    description: "Only runs with this status.",
    type: "string",
    enum: RunStatus.options,
  }),
  label: emptyIsAbsent(Label.optional()).meta({
    type: "string",
    minLength: 1,
    maxLength: MAX_LABEL_LENGTH,
    description: "Only runs with exactly this label.",
  }),
  limit: emptyIsAbsent(count({ min: 1, max: MAX_LIST_LIMIT }).default(DEFAULT_LIST_LIMIT)).meta({
    description: "The most runs on a page.",
    type: "integer",
    ...INT32,
    minimum: 1,
    maximum: MAX_LIST_LIMIT,
    default: DEFAULT_LIST_LIMIT,
  }),
  cursor: emptyIsAbsent(
    z
      .string()
      .regex(/^\d{1,15}$/, "must be the next_cursor of an earlier answer")
      .optional(),
  ).meta({
    description: "The `next_cursor` of the previous page.",
    type: "string",
    pattern: "^\\d{1,15}$",
  }),
});

/** The query of a log page. */
export const ReadLogQuery = z.strictObject({
  after: count({ min: 0, max: Number.MAX_SAFE_INTEGER })
    .default(0)
    .meta({
      description: "The byte to start at: 0, then the `offset` of the last answer.",
      type: "integer",
      ...INT64,
      minimum: 0,
      default: 0,
    }),
  max_bytes: count({ min: 1, max: Number.MAX_SAFE_INTEGER })
    .transform((bytes) => Math.min(bytes, MAX_LOG_PAGE_BYTES))
    .default(DEFAULT_LOG_PAGE_BYTES)
    .meta({
      description: `The most bytes on a page; a value above ${MAX_LOG_PAGE_BYTES} is lowered to that. A page never ends inside a UTF-8 character, and has at least one.`,
      type: "integer",
      ...INT64,
      minimum: 1,
      default: DEFAULT_LOG_PAGE_BYTES,
    }),
  wait: count({ min: 0, max: MAX_LOG_WAIT_SECONDS })
    .default(0)
    .meta({
      description: "For how many seconds to wait until there are bytes past `after`, or until the run ends.",
      type: "integer",
      ...INT32,
      minimum: 0,
      maximum: MAX_LOG_WAIT_SECONDS,
      default: 0,
    }),
});

/** The query of a list of scripts. */
export const ListScriptsQuery = z.strictObject({
  path: emptyIsAbsent(HostPath.optional()).meta({
    description: "A folder inside the script roots. Without it: all script roots.",
    type: "string",
    maxLength: 4095,
  }),
});

/** The query of a script's source. */
export const ReadScriptQuery = z.strictObject({
  path: HostPath.meta({ description: "A script of the list.", example: "/home/mark/scripts/my_job.sh" }),
});

/** A log page as JSON. */
export const LogPage = z
  .object({
    run_id: RunId,
    offset: z.int().meta({
      ...INT64,
      description: "The next byte to ask for: pass it as `after`. In raw bytes.",
      example: 4096,
    }),
    size: z.int().meta({ ...INT64, description: "The log's size in bytes when it was read.", example: 8192 }),
    chunk: z.string().meta({
      description:
        "The page's text. Bytes that are not UTF-8 become U+FFFD; `Accept: text/plain` gives them raw.",
      example: "started at 10:44:44\n...",
    }),
    more: z.boolean().meta({
      description: "True when there are bytes past `offset` now. It does not say whether the run is alive.",
    }),
  })
  .meta({ id: "LogPage" });

/** The answer of /healthz. */
export const Health = z
  .object({
    status: z.enum(["ok", "degraded"]),
    mode: z
      .enum(["dev", "enforced", "unavailable"])
      .meta({ description: "Whether API keys are needed; `unavailable` refuses every request." }),
    agent: z.enum(["ok", "degraded", "unreachable"]),
    problems: z.array(z.string()).meta({ description: "What is wrong, for the operator." }),
  })
  .meta({ id: "Health" });
