import type { RouteConfig } from "@asteasolutions/zod-to-openapi";
import * as z from "zod";

import { SOURCES } from "../host-agent/protocol/limits.ts";
import type { Source } from "../host-agent/protocol/run.ts";
import { ANSWER_EXAMPLES } from "./openapi-examples.ts";
import { ANSWERS } from "./schemas.ts";
import { SURFACES } from "./surface.ts";

const HEADERS = z.object({
  "webhook-id": z.string().meta({ description: "The run's id: the same in each repetition." }),
  "webhook-timestamp": z
    .string()
    .regex(/^\d+$/)
    .meta({ description: "Epoch seconds of this attempt, part of what is signed." }),
  "webhook-signature": z.string().meta({
    description:
      "One or more signatures, separated by blanks: `v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64. One of them must match.",
  }),
});

/** What the Hub sends to a launch's `callback_url`, one webhook for each surface. OpenAPI 3.0 has no webhooks. */
export const WEBHOOKS: readonly RouteConfig[] = SOURCES.map(webhook);

function webhook(source: Source): RouteConfig {
  const { name, tag } = SURFACES[source];
  return {
    method: "post",
    path: `${source}RunEnded`,
    operationId: `${source}RunEnded`,
    tags: [tag],
    summary: "Receive the final record of a run",
    description:
      "Sent to the `callback_url` of a launch when the run has ended, by Standard Webhooks (www.standardwebhooks.com). Repeated for a day, with growing pauses, until the answer is a 2xx or a 410, so it can come more than once: ignore a `webhook-id` that you have seen.",
    security: [],
    request: {
      headers: HEADERS,
      body: {
        required: true,
        content: {
          "application/json": { schema: ANSWERS[source].run, example: ANSWER_EXAMPLES[`get${name}Run`] },
        },
      },
    },
    responses: {
      200: { description: "Any 2xx within ten seconds: received, and not sent again" },
      410: { description: "Not wanted any more: not sent again" },
      default: { description: "Any other answer, also a redirect: sent again later" },
    },
  };
}
