import { RunRecord, type Source } from "../../host-agent/protocol/schemas.ts";
import { ok } from "../reply.ts";
import { defineRoute } from "../route.ts";
import { RunParams } from "../schemas.ts";
import { SURFACES } from "../surface.ts";

export const getRun = (source: Source) =>
  defineRoute({
    method: "get",
    path: `${SURFACES[source].base}/:run_id`,
    operationId: `get${SURFACES[source].name}Run`,
    tag: SURFACES[source].tag,
    summary: "Get one run's record",
    description:
      "The run with its status as it is now: its process on the host is looked at for every answer.",
    scope: SURFACES[source].read,
    request: { params: RunParams },
    response: { status: 200, description: "The run", body: RunRecord },
    problems: ["run_not_found"],

    async handle({ params }, { agent }) {
      return ok(await agent.getRun(source, params.run_id));
    },
  });
