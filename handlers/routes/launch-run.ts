import * as z from "zod";

import type { WaitQuery } from "../../host-agent/protocol/agent.ts";
import type { PreviewOrder } from "../../host-agent/protocol/launch.ts";
import { ApiProblem, type ProblemCode } from "../../host-agent/protocol/problem.ts";
import type { RunRecord, Source } from "../../host-agent/protocol/run.ts";
import type { Deps } from "../deps.ts";
import { hold } from "../holding.ts";
import { checkIdempotencyKey, type Launched, launchOnce } from "../idempotency.ts";
import { LAUNCHES, launchOrder } from "../launch-order.ts";
import { preferenceApplied, preferredWait } from "../prefer.ts";
import { ok, type Reply } from "../reply.ts";
import { type Context, defineRoute, type Route } from "../route.ts";
import { ANSWERS, PipelineLaunch, ScriptLaunch } from "../schemas.ts";
import { SURFACES } from "../surface.ts";

/**
 * A dry run asks for what `POST …/previews` answers. It stays accepted, for clients of version 1.0.0, and is not in the document:
 * a generated client would take one of two successes for the only one.
 */
const DryRun = { dry_run: z.boolean().optional() };
/** What a launch takes in addition to what it documents. */
const LAUNCH_BODIES = { pipeline: PipelineLaunch.extend(DryRun), script: ScriptLaunch.extend(DryRun) };

const STARTS = {
  pipeline: "Starts a run of a recipe.",
  script: "Starts a run of a script inside the operator's script roots, in the script's own folder.",
};

const LAUNCH_RESPONSE: Omit<Route["response"], "body"> = {
  status: 201,
  description: "The run; also when an earlier request with the same Idempotency-Key started it",
  headers: [
    { name: "Location", description: "The run's own URL.", required: true, schema: { type: "string" } },
    {
      name: "Idempotent-Replayed",
      description: "`true` when an earlier request started the run; the record is the run's current one.",
      schema: { type: "string", enum: ["true"] },
    },
    {
      name: "Hub-Stale",
      description: "`true` when the host could not be reached, and the record is the one of the launch.",
      schema: { type: "string", enum: ["true"] },
    },
  ],
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
    summary: `Launch ${LAUNCHES[source].noun}`,
    description: `${STARTS[source]} Send an Idempotency-Key to make retries safe: within an hour the same key and body give the same run, never a second one.`,
    scope: SURFACES[source].write,
    idempotent: true,
    waits: true,
    request: { body: LAUNCH_BODIES[source] },
    documentedBody: LAUNCHES[source].body,
    bodyExample: LAUNCHES[source].example,
    response: { ...LAUNCH_RESPONSE, body: ANSWERS[source].run },
    problems: [...LAUNCHES[source].problems, ...LAUNCH_PROBLEMS],

    async handle(input, deps) {
      const { dry_run, ...body } = input.body;
      const launch = launchOrder(source, body, input);

      const header = input.headers.get("idempotency-key");
      const key = header === null ? null : checkIdempotencyKey(header);
      if (dry_run) return ok(await deps.agent.previewLaunch(launch));
      const launched = await launchOnce(launch, key, {
        ...deps,
        isReachLimited: input.principal.reach !== undefined,
        signal: input.signal,
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

/**
 * Undefined when the wait fails, or when the key was revoked or limited to another reach meanwhile: the launch itself has succeeded, and must not be
 * answered with an error. The answer is then the record that was known before the wait.
 */
async function awaitEnd(
  run: RunRecord,
  waitSeconds: number,
  input: Context,
  { agent, stopping }: Deps,
): Promise<RunRecord | undefined> {
  if (run.ended_at !== null || waitSeconds === 0) return run;
  const get = (wait: WaitQuery) =>
    agent.getRun(run.source, run.run_id, { ...wait, keyName: input.principal.name });
  try {
    const ended = await hold(waitSeconds, { signal: input.signal, stopping }, get);
    return (await input.readmit()) ? ended : undefined;
  } catch (error) {
    if (error instanceof ApiProblem) return undefined;
    throw error;
  }
}
