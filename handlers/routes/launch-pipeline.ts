import { launchReply, LAUNCH_PROBLEMS, LAUNCH_RESPONSE } from "../launching.ts";
import { defineRoute } from "../route.ts";
import { PipelineLaunch } from "../schemas.ts";

export const launchPipeline = defineRoute({
  method: "post",
  path: "/api/v1/pipelines/runs",
  operationId: "launchPipeline",
  tag: "Pipelines",
  summary: "Launch a recipe",
  description:
    "Starts a run of a recipe. Send an Idempotency-Key to make retries safe: within an hour the same key and body give the same run, never a second one.",
  scope: "pipelines:write",
  idempotent: true,
  waits: true,
  request: { body: PipelineLaunch },
  response: LAUNCH_RESPONSE,
  problems: ["recipe_not_found", ...LAUNCH_PROBLEMS],

  async handle({ body, ...context }, deps) {
    const { dry_run, label, callback_url, ...spec } = body;
    const key_name = context.principal.name;
    const launch = {
      source: "pipeline" as const,
      spec,
      label,
      callback_url,
      key_name,
      request_id: context.requestId,
    };
    return launchReply({ ...launch, dry_run }, context, deps);
  },
});
