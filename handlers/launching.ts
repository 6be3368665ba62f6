import * as z from "zod";

import type { ProblemCode } from "../host-agent/protocol/problem.ts";
import { type LaunchOrder, RunRecord } from "../host-agent/protocol/schemas.ts";
import { checkIdempotencyKey, launchOnce } from "./idempotency.ts";
import type { Reply } from "./reply.ts";
import type { Deps, Route } from "./route.ts";

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
};

export const LAUNCH_PROBLEMS: ProblemCode[] = [
  "idempotency_key_reused",
  "launch_failed",
  "terminal_unavailable",
  "too_many_runs",
  "host_unavailable",
];

/** Launches, once for the request's Idempotency-Key, and tells where the run is. */
export async function launchReply(
  launch: Pick<LaunchOrder, "source" | "spec" | "key_name" | "request_id">,
  headers: Headers,
  deps: Deps,
): Promise<Reply> {
  const header = headers.get("idempotency-key");
  const key = header === null ? null : checkIdempotencyKey(header);
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
  return {
    status: 201,
    headers: {
      location: `/api/v1/${SURFACE[run.source]}/runs/${run.run_id}`,
      ...(replayed && { "idempotent-replayed": "true" }),
      ...(stale && { "hub-stale": "true" }),
    },
    json: run,
  };
}
