import type { Scope } from "./auth.ts";
import type { Source } from "../host-agent/protocol/run.ts";

/** What differs between the routes of the two surfaces, pipelines and scripts. */
export const SURFACES = {
  pipeline: {
    base: "/api/v1/pipelines/runs",
    previews: "/api/v1/pipelines/previews",
    tag: "Pipelines",
    name: "Pipeline",
    read: "pipelines:read",
    write: "pipelines:write",
  },
  script: {
    base: "/api/v1/scripts/runs",
    previews: "/api/v1/scripts/previews",
    tag: "Scripts",
    name: "Script",
    read: "scripts:read",
    write: "scripts:write",
  },
} as const satisfies Record<
  Source,
  { base: string; previews: string; tag: string; name: string; read: Scope; write: Scope }
>;
