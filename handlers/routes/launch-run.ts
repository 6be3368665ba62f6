import * as z from "zod";

import type { WaitQuery } from "../../host-agent/protocol/agent.ts";
import { LaunchPreview, type PreviewOrder } from "../../host-agent/protocol/launch.ts";
import { ApiProblem, type ProblemCode } from "../../host-agent/protocol/problem.ts";
import { RunRecord, type Source } from "../../host-agent/protocol/run.ts";
import type { Deps } from "../deps.ts";
import { hold } from "../holding.ts";
import { checkIdempotencyKey, type Launched, launchOnce } from "../idempotency.ts";
import { preferenceApplied, preferredWait } from "../prefer.ts";
import { ok, type Reply } from "../reply.ts";
import { type Context, defineRoute, type Route } from "../route.ts";
import { PipelineLaunch, ScriptLaunch } from "../schemas.ts";
import { SURFACES } from "../surface.ts";

/** What differs between a launch of a recipe and one of a script. */
const LAUNCHES = {
  pipeline: {
    summary: "Launch a recipe",
    starts: "Starts a run of a recipe.",
    body: PipelineLaunch,
    problems: ["recipe_not_found"],
  },
  script: {
    summary: "Launch a .sh",
    starts: "Starts a run of a script inside the operator's script roots, in the script's own folder.",
    body: ScriptLaunch,
    problems: ["path_forbidden", "script_not_found"],
  },
} as const satisfies Record<Source, object>;

const LAUNCH_RESPONSE: Route["response"] = {
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
      description: "`true` when the host could not be reached, and the record is the one of the launch.",
      schema: z.literal("true"),
    },
  ],
  others: { 200: { description: "A preview of the launch, for a `dry_run`", body: LaunchPreview } },
};

const LAUNCH_PROBLEMS: ProblemCode[] = [
  "idempotency_key_reused",
  "launch_failed",
  "terminal_unavailable",
  "too_many_runs",
];

export const launchRun = (source: Source) =>
  defineRoute({
    method: "post",
    path: SURFACES[source].base,
    operationId: `launch${SURFACES[source].name}`,
    tag: SURFACES[source].tag,
    summary: LAUNCHES[source].summary,
    description: `${LAUNCHES[source].starts} Send an Idempotency-Key to make retries safe: within an hour the same key and body give the same run, never a second one.`,
    scope: SURFACES[source].write,
    idempotent: true,
    waits: true,
    request: { body: LAUNCHES[source].body },
    response: LAUNCH_RESPONSE,
    problems: [...LAUNCHES[source].problems, ...LAUNCH_PROBLEMS],

    async handle(input, deps) {
      const { dry_run, label, callback_url, ...spec } = input.body;
      const key_name = input.principal.name;
      const options = { label, callback_url, key_name, request_id: input.requestId };
      // The schema of this source has checked the spec; the compiler cannot see that the two belong together.
      const launch = { source, spec, ...options } as PreviewOrder;

      const header = input.headers.get("idempotency-key");
      const key = header === null ? null : checkIdempotencyKey(header);
      if (dry_run) return ok(await deps.agent.previewLaunch(launch));
      const launched = await launchOnce(launch, key, {
        ...deps,
        onKvError: (error) => deps.log({ level: "warn", event: "kv_failed", error: String(error) }),
      });
      await auditReplay(launched, launch, deps);
      return reply(launched, input, deps);
    },
  });

/** The agent records a launch that it answers; one that was answered from the KV is recorded here. */
async function auditReplay({ run, from }: Launched, launch: PreviewOrder, deps: Deps): Promise<void> {
  if (from !== "kv" && from !== "kv_stale") return;
  deps.audit?.({
    event: "replay",
    outcome: from === "kv_stale" ? "replayed_stale" : "replayed",
    source: launch.source,
    key_name: launch.key_name,
    request_id: launch.request_id ?? null,
    run_id: run.run_id,
    argv_sha256: await deps.digest(run.cmd),
  });
}

/** The run and its URL. Waits for the run's end as long as `Prefer` asks, unless the host cannot be reached. */
async function reply({ run, from }: Launched, input: Context, deps: Deps): Promise<Reply> {
  const isStale = from === "kv_stale";
  const waitSeconds = isStale ? undefined : preferredWait(input.headers);
  const waited = waitSeconds === undefined ? undefined : await awaitEnd(run, waitSeconds, input, deps);
  return {
    status: 201,
    headers: {
      location: `${deps.publicUrl ?? ""}${SURFACES[run.source].base}/${run.run_id}`,
      ...(from !== "launch" && { "idempotent-replayed": "true" }),
      ...(isStale && { "hub-stale": "true" }),
      ...(waited && preferenceApplied(waitSeconds)),
    },
    json: waited ?? run,
  };
}

/** Undefined when the wait fails: the launch itself has succeeded, and must not be answered with an error. */
async function awaitEnd(
  run: RunRecord,
  waitSeconds: number,
  input: Context,
  { agent, stopping }: Deps,
): Promise<RunRecord | undefined> {
  if (run.ended_at !== null || waitSeconds === 0) return run;
  const get = (wait: WaitQuery) => agent.getRun(run.source, run.run_id, wait);
  return hold(waitSeconds, { signal: input.signal, stopping }, get).catch((error: unknown) => {
    if (error instanceof ApiProblem) return undefined;
    throw error;
  });
}
