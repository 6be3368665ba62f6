import { LaunchPreview } from "../../host-agent/protocol/launch.ts";
import type { Source } from "../../host-agent/protocol/run.ts";
import { LAUNCHES, launchOrder } from "../launch-order.ts";
import { ok } from "../reply.ts";
import { defineRoute } from "../route.ts";
import { SURFACES } from "../surface.ts";

export const previewRun = (source: Source) =>
  defineRoute({
    method: "post",
    path: SURFACES[source].previews,
    operationId: `preview${SURFACES[source].name}`,
    tag: SURFACES[source].tag,
    summary: `Preview a launch of ${LAUNCHES[source].noun}`,
    description:
      "Takes the body of a launch, and answers with the command, folder, log and limits that the launch would have, and whether it would start now. Starts and records nothing.",
    // As for a launch: the answer shows what only a launch would show.
    scope: SURFACES[source].write,
    request: { body: LAUNCHES[source].body },
    bodyExample: LAUNCHES[source].example,
    response: { status: 200, description: "What the launch would do", body: LaunchPreview },
    problems: LAUNCHES[source].problems,

    async handle(input, { agent }) {
      return ok(await agent.previewLaunch(launchOrder(source, input.body, input)));
    },
  });
