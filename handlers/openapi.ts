import {
  OpenAPIRegistry,
  OpenApiGeneratorV3,
  OpenApiGeneratorV31,
  type RouteConfig,
} from "@asteasolutions/zod-to-openapi";
import * as z from "zod";

import { MAX_RUN_WAIT_SECONDS } from "../host-agent/protocol/run.ts";
import { MAX_IDEMPOTENCY_KEY_BYTES } from "./idempotency.ts";
import { INTRODUCTION, TITLE, VERSION } from "./openapi-introduction.ts";
import { responseWriter } from "./openapi-responses.ts";
import { WEBHOOKS } from "./openapi-webhooks.ts";
import { Problem } from "./problem.ts";
import type { Route } from "./route.ts";

/** The OpenAPI 3.1 document of the routes, as plain JSON. `publicUrl` is the address that clients use, if it is known. */
export function openapi(routes: readonly Route[], publicUrl = "/"): object {
  const license = { name: "MIT", identifier: "MIT" };
  return new OpenApiGeneratorV31(definitionsOf(routes), SORTED).generateDocument({
    ...HEAD,
    servers: servers(publicUrl),
    openapi: "3.1.0",
    info: { ...HEAD.info, license },
  });
}

/** The same in OpenAPI 3.0, for tools that do not read 3.1 yet. */
export function openapi30(routes: readonly Route[], publicUrl = "/"): object {
  return new OpenApiGeneratorV3(definitionsOf(routes), SORTED).generateDocument({
    ...HEAD,
    servers: servers(publicUrl),
    openapi: "3.0.3",
    info: { ...HEAD.info, license: { name: "MIT", url: "https://spdx.org/licenses/MIT.html" } },
  });
}

function servers(url: string) {
  return [{ url, description: "The Hub that serves this document" }];
}

const SORTED = { sortComponents: "alphabetically" } as const;
/** What both versions have. */
const HEAD = {
  info: { title: TITLE, version: VERSION, description: INTRODUCTION },
  // Of the whole document, so that Postman gives it to the collection, where a key is set once.
  security: [{ bearer: [] }],
  tags: [
    { name: "Pipelines", description: "The curated recipes shipped with the Hub." },
    { name: "Scripts", description: "`.sh` files inside the operator's script roots." },
    { name: "Service", description: "The service itself." },
  ],
};

function definitionsOf(routes: readonly Route[]) {
  const registry = new OpenAPIRegistry();
  registry.registerComponent("securitySchemes", "bearer", {
    type: "http",
    scheme: "bearer",
    description: "An API key of the operator's keys file.",
  });
  const responsesOf = responseWriter(registry);
  for (const route of routes) registry.registerPath({ ...operation(route), responses: responsesOf(route) });
  for (const webhook of WEBHOOKS) registry.registerWebhook(webhook);
  // References name the schema of problems, which is in no route.
  return [{ type: "schema" as const, schema: Problem }, ...registry.definitions];
}

function operation(route: Route): Omit<RouteConfig, "responses"> {
  const { params, query } = route.request;
  const body = route.documentedBody ?? route.request.body;
  return {
    method: route.method,
    path: route.path.replaceAll(/:(\w+)/g, "{$1}"),
    operationId: route.operationId,
    tags: [route.tag],
    summary: route.summary,
    description: route.description,
    ...(!route.scope && { security: [] }),
    ...(route.scope && { "x-required-scopes": [route.scope] }),
    request: {
      ...(params && { params: params as z.ZodObject }),
      ...(query && { query: query as z.ZodObject }),
      headers: requestHeaders(route),
      ...(body && {
        body: {
          required: !route.bodyOptional,
          content: {
            "application/json": { schema: body, ...(route.bodyExample && { example: route.bodyExample }) },
          },
        },
      }),
    },
  };
}

function requestHeaders(route: Route): z.ZodObject {
  return z.object({
    ...(route.idempotent && {
      "Idempotency-Key": z.string().min(1).max(MAX_IDEMPOTENCY_KEY_BYTES).optional().meta({
        description:
          // Not as an example: a form would send it, and refuse the second launch from there.
          "Any string of 1-255 printable ASCII characters that you choose for this launch, such as `my-job-2026-05-15-001`. Makes retries safe for an hour.",
      }),
    }),
    ...(route.waits && {
      Prefer: z
        .string()
        .optional()
        .meta({
          // No example either: a form would send it, and the request would wait.
          description: `\`wait=N\` (RFC 7240), as in \`wait=30\`: answer when the run has ended, or after N seconds, at most ${MAX_RUN_WAIT_SECONDS}. Other preferences are ignored.`,
        }),
    }),
    "X-Request-Id": z
      .string()
      .regex(/^[\w.:-]{1,128}$/)
      .optional()
      .meta({
        description: "Your own id for this request. The answer and the operator's log contain it.",
      }),
  });
}
