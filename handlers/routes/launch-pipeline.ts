import { PipelineSpec } from "../../host-agent/protocol/schemas.ts";
import { launchReply, LAUNCH_PROBLEMS, LAUNCH_RESPONSE } from "../launching.ts";
import { defineRoute } from "../route.ts";

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
  request: { body: PipelineSpec },
  response: LAUNCH_RESPONSE,
  problems: ["recipe_not_found", ...LAUNCH_PROBLEMS],

  async handle({ body, principal, requestId, headers }, deps) {
    return launchReply(
      { source: "pipeline", spec: body, key_name: principal.name, request_id: requestId },
      headers,
      deps,
    );
  },
});
