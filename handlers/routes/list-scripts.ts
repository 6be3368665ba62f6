import { ScriptList } from "../../host-agent/protocol/script.ts";
import { ok } from "../reply.ts";
import { defineRoute } from "../route.ts";
import { ListScriptsQuery } from "../schemas.ts";

export const listScripts = defineRoute({
  method: "get",
  path: "/api/v1/scripts",
  operationId: "listScripts",
  tag: "Scripts",
  summary: "List .sh files",
  description:
    "The `.sh` files in a folder and its subfolders, at most 1000. Hidden folders and node_modules are omitted.",
  scope: "scripts:read",
  request: { query: ListScriptsQuery },
  response: { status: 200, description: "The scripts", body: ScriptList },
  problems: ["path_forbidden", "script_not_found"],

  async handle({ query }, { agent }) {
    return ok(await agent.listScripts(query.path));
  },
});
