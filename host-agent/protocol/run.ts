import * as z from "zod";

import { INT32, INT64 } from "./integers.ts";
import { MAX_GRACE_SECONDS, RUN_ID, SIGNALS, SOURCES, STATUSES } from "./limits.ts";
import { PipelineSpec, ScriptSpec } from "./spec.ts";

export const Source = z.enum(SOURCES);
export type Source = z.infer<typeof Source>;

export const RunStatus = z
  .enum(STATUSES)
  .meta({ id: "RunStatus", description: "The state of a run. Only `running` changes later." });
export type RunStatus = z.infer<typeof RunStatus>;

export const Signal = z.enum(SIGNALS);
export type Signal = z.infer<typeof Signal>;

export const RunId = z.string().regex(RUN_ID, "must look like run_a1b2c3d4e5f6");

export const RunUsage = z
  .object({
    cpu_seconds: z
      .number()
      .meta({ description: "CPU time of all its processes, user and system.", example: 12.345 }),
    memory_peak_bytes: z
      .int()
      .nullable()
      .meta({
        ...INT64,
        description: "The most memory that it used at once; null if the host did not count it.",
        example: 104_857_600,
      }),
  })
  .meta({
    id: "RunUsage",
    description: "What the run used. Only for an ended run on a host that gives each run a cgroup.",
  });

/** The record of a run: what the host knows about it at the time of the answer. The public document has one for each surface. */
export const RunRecord = z.object({
  run_id: RunId.meta({ example: "run_a1b2c3d4e5f6" }),
  source: Source,
  spec: z.union([PipelineSpec, ScriptSpec]),
  pid: z
    .string()
    .nullable()
    .meta({ description: "Process id on the host; null if nothing was ever started.", example: "3505615" }),
  log_path: z.string().meta({
    description: "The path of the log on the host.",
    example: "/home/mark/serveraihub/eval/logs/build_all_extra_features__20260515_104444.log",
  }),
  cmd: z.string().meta({
    description: "The command line, quoted for a shell where a word needs it.",
    example: "python build_all_extra_features.py --limit 5000",
  }),
  started_at: z.int().meta({ ...INT64, description: "Epoch seconds.", example: 1_778_856_284 }),
  ended_at: z
    .int()
    .nullable()
    .meta({ ...INT64, description: "Epoch seconds; null until the process has ended.", example: null }),
  status: RunStatus,
  status_reason: z.string().meta({
    description: "Why the status is what it is, in one sentence.",
    example: "The process is alive.",
  }),
  exit_code: z
    .int()
    .nullable()
    .meta({
      ...INT32,
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
  left_behind: z
    .int()
    .optional()
    .meta({
      ...INT32,
      description:
        "How many processes of the run were alive when its end was noticed. Only for an ended run on a host that gives each run a cgroup.",
    }),
  usage: RunUsage.optional(),
});
export type RunRecord = z.infer<typeof RunRecord>;

export const RunList = z.object({
  runs: z.array(RunRecord),
  next_cursor: z
    .string()
    .nullable()
    .meta({ description: "Pass as `cursor` for the next page; null on the last one." }),
});
export type RunList = z.infer<typeof RunList>;

export const KillOrder = z
  .strictObject({
    signal: Signal.default("SIGTERM").meta({
      // Given the type, the document has no default: spec.ts says why.
      type: "string",
      enum: [...SIGNALS],
      description: "What to send to the whole process tree; SIGTERM if left out.",
    }),
    grace_seconds: z
      .int()
      .min(0)
      .max(MAX_GRACE_SECONDS)
      .optional()
      .meta({
        ...INT32,
        description:
          "SIGKILL the remaining processes after this number of seconds. Without it nothing follows the signal.",
        example: 10,
      }),
  })
  .meta({ id: "KillOrder" });
export type KillOrder = z.infer<typeof KillOrder>;

/** The edge's id of the client's request; it goes into the audit log. */
export const RequestId = z.string().regex(/^[\w.:-]{1,128}$/);

/** The longest time that a request may wait for a run's end. */
export const MAX_RUN_WAIT_SECONDS = 60;
export const DEFAULT_LIST_LIMIT = 50;
