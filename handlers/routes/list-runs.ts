import type { Source } from "../../host-agent/protocol/run.ts";
import { ok } from "../reply.ts";
import { defineRoute } from "../route.ts";
import { ANSWERS, ListRunsQuery } from "../schemas.ts";
import { SURFACES } from "../surface.ts";

export const listRuns = (source: Source) =>
  defineRoute({
    method: "get",
    path: SURFACES[source].base,
    operationId: `list${SURFACES[source].name}Runs`,
    tag: SURFACES[source].tag,
    summary: "List runs",
    description: "The runs of this surface, newest first, each with its current status.",
    scope: SURFACES[source].read,
    request: { query: ListRunsQuery },
    response: { status: 200, description: "A page of runs", body: ANSWERS[source].list },
    problems: [],

    async handle({ query }, { agent }) {
      return ok(await agent.listRuns({ source, ...query }));
    },
  });
