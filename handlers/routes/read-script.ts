import { ScriptContent } from "../../host-agent/protocol/script.ts";
import { ok } from "../reply.ts";
import { defineRoute } from "../route.ts";
import { ReadScriptQuery } from "../schemas.ts";

export const readScript = defineRoute({
  method: "get",
  path: "/api/v1/scripts/content",
  operationId: "readScript",
  tag: "Scripts",
  summary: "Read a script's source",
  description: "The source of one script, at most 1 MiB.",
  scope: "scripts:read",
  request: { query: ReadScriptQuery },
  response: { status: 200, description: "The script", body: ScriptContent },
  problems: ["path_forbidden", "script_not_found", "script_too_large"],

  async handle({ query }, { agent }) {
    return ok(await agent.readScript(query.path));
  },
});
