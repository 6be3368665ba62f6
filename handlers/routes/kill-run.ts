import { KillOrder, type Source } from "../../host-agent/protocol/run.ts";
import { ok } from "../reply.ts";
import { defineRoute } from "../route.ts";
import { ANSWERS, RunParams } from "../schemas.ts";
import { SURFACES } from "../surface.ts";

export const killRun = (source: Source) =>
  defineRoute({
    method: "post",
    path: `${SURFACES[source].base}/:run_id/kill`,
    operationId: `kill${SURFACES[source].name}Run`,
    tag: SURFACES[source].tag,
    summary: "Stop a run",
    description:
      "Sends SIGTERM, or the signal in the body, to every process of the run. Safe to repeat: a killed run gets no second signal, unless the request asks for SIGKILL or a grace period while the run is alive.",
    scope: SURFACES[source].write,
    request: { params: RunParams, body: KillOrder },
    bodyOptional: true,
    bodyExample: { signal: "SIGINT", grace_seconds: 10 },
    response: {
      status: 200,
      description: "The run; `ended_at` is null while any process of the run is alive",
      body: ANSWERS[source].run,
    },
    problems: ["run_not_found", "run_ended"],

    async handle({ params, body, principal, requestId }, { agent }) {
      return ok(await agent.killRun(source, params.run_id, body, { keyName: principal.name, requestId }));
    },
  });
