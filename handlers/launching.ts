import * as z from "zod";

import type { WaitQuery } from "../host-agent/protocol/agent.ts";
import { ApiProblem, type ProblemCode } from "../host-agent/protocol/problem.ts";
import { LaunchPreview, type PreviewOrder } from "../host-agent/protocol/launch.ts";
import { RunRecord } from "../host-agent/protocol/run.ts";
import type { Deps } from "./deps.ts";
import { hold } from "./holding.ts";
import { checkIdempotencyKey, launchOnce } from "./idempotency.ts";
import { preferenceApplied, preferredWait } from "./prefer.ts";
import { ok, type Reply } from "./reply.ts";
import type { Context, Route } from "./route.ts";

const SURFACE = { pipeline: "pipelines", script: "scripts" } as const;

/** The answer of both launch routes. */
export const LAUNCH_RESPONSE: Route["response"] = {
  status: 201,
  description: "The run; also when an earlier request with the same Idempotency-Key started it",
  body: RunRecord,
  headers: [
    { name: "Location", description: "The run's own URL.", schema: z.string() },
    {
      name: "Idempotent-Replayed",
      description: "`true` when an earlier request started the run; the record is the run's current one.",
      schema: z.literal("true"),
    },
    {
      name: "Hub-Stale",
      description: "`true` when the host could not be asked, and the record is the one of the launch.",
      schema: z.literal("true"),
    },
  ],
  others: { 200: { description: "What the launch would come to, for a `dry_run`", body: LaunchPreview } },
};

export const LAUNCH_PROBLEMS: ProblemCode[] = [
  "idempotency_key_reused",
  "launch_failed",
  "terminal_unavailable",
  "too_many_runs",
];

/**
 * Launches, once for the request's Idempotency-Key, waits for the end as long as
 * `Prefer` says, and tells where the run is; for a dry run, what it would be.
 */
export async function launchReply(
  { dry_run, ...launch }: PreviewOrder & { dry_run: boolean | undefined },
  { headers, signal }: Context,
  deps: Deps,
): Promise<Reply> {
  const header = headers.get("idempotency-key");
  const key = header === null ? null : checkIdempotencyKey(header);
  if (dry_run) return ok(await deps.agent.previewLaunch(launch));
  const { run, replayed, stale, fromKv } = await launchOnce(launch, key, {
    ...deps,
    onKvError: (error) => deps.log({ level: "warn", event: "kv_failed", error: String(error) }),
  });
  if (fromKv) {
    deps.audit?.({
      event: "replay",
      outcome: stale ? "replayed_stale" : "replayed",
      source: launch.source,
      key_name: launch.key_name,
      request_id: launch.request_id ?? null,
      run_id: run.run_id,
      argv_sha256: await deps.digest(run.cmd),
    });
  }
  const waitSeconds = stale ? undefined : preferredWait(headers);
  const waited = waitSeconds === undefined ? undefined : await awaitEnd(run, waitSeconds, signal, deps);
  return {
    status: 201,
    headers: {
      location: `/api/v1/${SURFACE[run.source]}/runs/${run.run_id}`,
      ...(replayed && { "idempotent-replayed": "true" }),
      ...(stale && { "hub-stale": "true" }),
      ...(waited && preferenceApplied(waitSeconds)),
    },
    json: waited ?? run,
  };
}

/** Undefined when the wait broke off: the launch itself has succeeded, and must not look as if it had not. */
async function awaitEnd(
  run: RunRecord,
  waitSeconds: number,
  signal: AbortSignal,
  { agent, stopping }: Deps,
): Promise<RunRecord | undefined> {
  if (run.ended_at !== null || waitSeconds === 0) return run;
  const get = (wait: WaitQuery) => agent.getRun(run.source, run.run_id, wait);
  return hold(waitSeconds, { signal, stopping }, get).catch((error: unknown) => {
    if (error instanceof ApiProblem) return undefined;
    throw error;
  });
}
