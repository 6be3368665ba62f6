import { launchReply, LAUNCH_PROBLEMS, LAUNCH_RESPONSE } from "../launching.ts";
import { defineRoute } from "../route.ts";
import { ScriptLaunch } from "../schemas.ts";

export const launchScript = defineRoute({
  method: "post",
  path: "/api/v1/scripts/runs",
  operationId: "launchScript",
  tag: "Scripts",
  summary: "Launch a .sh",
  description:
    "Starts a run of a script inside the operator's script roots, in the script's own folder. Send an Idempotency-Key to make retries safe: within an hour the same key and body give the same run, never a second one.",
  scope: "scripts:write",
  idempotent: true,
  waits: true,
  request: { body: ScriptLaunch },
  response: LAUNCH_RESPONSE,
  problems: ["path_forbidden", "script_not_found", ...LAUNCH_PROBLEMS],

  async handle({ body, ...context }, deps) {
    const { dry_run, label, callback_url, ...spec } = body;
    const key_name = context.principal.name;
    const launch = {
      source: "script" as const,
      spec,
      label,
      callback_url,
      key_name,
      request_id: context.requestId,
    };
    return launchReply({ ...launch, dry_run }, context, deps);
  },
});
