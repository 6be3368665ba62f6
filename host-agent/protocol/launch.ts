import * as z from "zod";

import { INT32, INT64 } from "./integers.ts";
import { RequestId, RunRecord, Source } from "./run.ts";
import { PipelineSpec, ScriptSpec } from "./spec.ts";

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

/** What a launch may have in addition to what is to run. */
export const LaunchOptions = z.object({
  label: Label.optional().meta({
    type: "string",
    minLength: 1,
    maxLength: MAX_LABEL_LENGTH,
    description: `A text of your own, up to ${MAX_LABEL_LENGTH} characters without control characters. It is in the record, and the lists can be filtered by it.`,
    example: "nightly evaluation",
  }),
  callback_url: CallbackUrl.optional().meta({
    description:
      "Gets one signed POST of the run's final record (Standard Webhooks: `webhook-id` is the run's id), repeated for a day until it answers 2xx. An https URL of a host that the operator allows; it is not shown in the record.",
    type: "string",
    maxLength: MAX_CALLBACK_URL_LENGTH,
    example: "https://ci.example.com/hooks/hub",
  }),
});

/** A launch as the edge passes it on: its options, and for whom it is. */
const Order = LaunchOptions.extend({
  key_name: z.string().min(1).max(200),
  request_id: RequestId.optional(),
});
const PipelineOrder = Order.extend({ source: z.literal("pipeline"), spec: PipelineSpec }).strict();
const ScriptOrder = Order.extend({ source: z.literal("script"), spec: ScriptSpec }).strict();

/** A launch to preview: it has no identity. */
export const PreviewOrder = z.discriminatedUnion("source", [PipelineOrder, ScriptOrder]);
export type PreviewOrder = z.infer<typeof PreviewOrder>;

const LaunchIdentity = {
  launch_token: z.string().regex(/^[0-9a-f]{64}$/),
  fingerprint: z.string().regex(/^[0-9a-f]{64}$/),
};

/** A launch, as the edge sends it; `launch_token` identifies the launch, not the attempt. */
export const LaunchOrder = z.discriminatedUnion("source", [
  PipelineOrder.extend(LaunchIdentity),
  ScriptOrder.extend(LaunchIdentity),
]);
export type LaunchOrder = z.infer<typeof LaunchOrder>;

/** What a launch would do without `dry_run`. */
export const LaunchPreview = z
  .object({
    dry_run: z.literal(true),
    source: Source,
    would_start: z.boolean().meta({ description: "Whether this launch would start a run now." }),
    reason: z.string().nullable().meta({
      description: "Why it would not start, in one sentence; null when it would.",
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
      description: "The path of its log, with the local time of the launch.",
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
        timeout_seconds: z
          .int()
          .nullable()
          .meta({ ...INT64, description: "It would be stopped after this time." }),
        max_running: z
          .int()
          .nullable()
          .meta({ ...INT64, description: "The limit of concurrent runs of this recipe." }),
        running: z
          .int()
          .nullable()
          .meta({ ...INT32, description: "Runs of this recipe now; null for a script." }),
        host_max_running: z
          .int()
          .meta({ ...INT32, description: "The limit of concurrent runs on the host." }),
        host_running: z.int().meta({ ...INT32, description: "Runs on the host now." }),
      })
      .meta({ description: "The limits that could refuse or stop it." }),
  })
  .meta({ id: "LaunchPreview" });
export type LaunchPreview = z.infer<typeof LaunchPreview>;

export const LaunchAnswer = z.object({ run: RunRecord, replayed: z.boolean() });
export type LaunchAnswer = z.infer<typeof LaunchAnswer>;

export const IDEMPOTENCY_TTL_SECONDS = 3_600;
