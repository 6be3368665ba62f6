import type { Source } from "../../host-agent/protocol/run.ts";
import { hold } from "../holding.ts";
import { preferenceApplied, preferredWait } from "../prefer.ts";
import { ok } from "../reply.ts";
import { defineRoute } from "../route.ts";
import { ANSWERS, RunParams } from "../schemas.ts";
import { SURFACES } from "../surface.ts";

export const getRun = (source: Source) =>
  defineRoute({
    method: "get",
    path: `${SURFACES[source].base}/:run_id`,
    operationId: `get${SURFACES[source].name}Run`,
    tag: SURFACES[source].tag,
    summary: "Get one run's record",
    description:
      "The run with its current status: every answer looks at the run's process on the host. With `Prefer: wait=N` the answer comes when the run has ended, or after N seconds.",
    scope: SURFACES[source].read,
    waits: true,
    request: { params: RunParams },
    response: { status: 200, description: "The run", body: ANSWERS[source].run },
    problems: ["run_not_found"],

    async handle(input, { agent, stopping }) {
      const { run_id } = input.params;
      const waitSeconds = preferredWait(input.headers);
      const run =
        waitSeconds === undefined
          ? await agent.getRun(source, run_id)
          : await hold(waitSeconds, { signal: input.signal, stopping }, (wait) =>
              agent.getRun(source, run_id, { ...wait, keyName: input.principal.name }),
            );
      return { ...ok(run), headers: preferenceApplied(waitSeconds) };
    },
  });
