import {
  OpenAPIRegistry,
  OpenApiGeneratorV3,
  OpenApiGeneratorV31,
  type RouteConfig,
} from "@asteasolutions/zod-to-openapi";
import * as z from "zod";

import { INT32 } from "../host-agent/protocol/integers.ts";
import { PROBLEMS, type ProblemCode } from "../host-agent/protocol/problem.ts";
import { MAX_RUN_WAIT_SECONDS } from "../host-agent/protocol/run.ts";
import { MAX_IDEMPOTENCY_KEY_BYTES } from "./idempotency.ts";
import { INTRODUCTION, TITLE, VERSION } from "./openapi-introduction.ts";
import { Problem, PROBLEM_TYPE } from "./problem.ts";
import type { ResponseHeader, Route } from "./route.ts";

type Responses = RouteConfig["responses"];

/** The OpenAPI 3.1 document of the routes, as plain JSON. */
export function openapi(routes: readonly Route[]): object {
  const license = { name: "MIT", identifier: "MIT" };
  return new OpenApiGeneratorV31(registryOf(routes).definitions, SORTED).generateDocument({
    ...HEAD,
    openapi: "3.1.0",
    info: { ...HEAD.info, license },
  });
}

/** The same in OpenAPI 3.0, for tools that do not read 3.1 yet. */
export function openapi30(routes: readonly Route[]): object {
  return new OpenApiGeneratorV3(registryOf(routes).definitions, SORTED).generateDocument({
    ...HEAD,
    openapi: "3.0.3",
    info: { ...HEAD.info, license: { name: "MIT", url: "https://spdx.org/licenses/MIT.html" } },
  });
}

const SORTED = { sortComponents: "alphabetically" } as const;
/** What both versions have. */
const HEAD = {
  info: { title: TITLE, version: VERSION, description: INTRODUCTION },
  servers: [{ url: "/", description: "The Hub that serves this document" }],
  // Of the whole document, so that Postman gives it to the collection, where a key is set once.
  security: [{ bearer: [] }],
  tags: [
    { name: "Pipelines", description: "The curated recipes shipped with the Hub." },
    { name: "Scripts", description: "`.sh` files inside the operator's script roots." },
    { name: "Service", description: "The service itself." },
  ],
};

function registryOf(routes: readonly Route[]): OpenAPIRegistry {
  const registry = new OpenAPIRegistry();
  registry.registerComponent("securitySchemes", "bearer", {
    type: "http",
    scheme: "bearer",
    description: "An API key of the operator's keys file.",
  });
  for (const route of routes) registry.registerPath(operation(route));
  return registry;
}

function operation(route: Route): RouteConfig {
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
    responses: { ...success(route), ...failures(route) },
  };
}

function requestHeaders(route: Route): z.ZodObject {
  return z.object({
    ...(route.idempotent && {
      "Idempotency-Key": z.string().min(1).max(MAX_IDEMPOTENCY_KEY_BYTES).optional().meta({
        description:
          // Not as an example: a form would send it, and refuse the second launch from there.
          "Any string of 1-255 bytes that you choose for this launch, such as `my-job-2026-05-15-001`. Makes retries safe for an hour.",
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

const COMMON_HEADERS = {
  "X-Request-Id": { description: "The id of this request.", schema: { type: "string" as const } },
  "Hub-Auth": {
    description: "`dev` on a Hub without API keys.",
    schema: { type: "string" as const, enum: ["dev"] },
  },
};

const PREFERENCE_APPLIED: ResponseHeader = {
  name: "Preference-Applied",
  description: "`wait=N` when the answer waited for the run's end, for N seconds at most.",
  schema: { type: "string" },
};

function success({ response, waits }: Route): Responses {
  const { status, description, body, alternatives = {}, alsoWith = {} } = response;
  const headers = [...(response.headers ?? []), ...(waits ? [PREFERENCE_APPLIED] : [])];
  const sameBody = Object.entries(alsoWith).map(
    ([other, why]) => [other, { description: why, body }] as const,
  );
  const others = sameBody.map(([other, further]) => [
    other,
    {
      description: further.description,
      headers: COMMON_HEADERS as never,
      content: { "application/json": { schema: further.body } },
    },
  ]);
  const alternativeContent = Object.entries(alternatives).map(([type, schema]) => [type, { schema }]);
  return {
    [status]: {
      description,
      headers: {
        ...COMMON_HEADERS,
        ...Object.fromEntries(headers.map(({ name, ...header }) => [name, header])),
      } as never,
      content: { "application/json": { schema: body }, ...Object.fromEntries(alternativeContent) },
    },
    ...Object.fromEntries(others),
  };
}

/** The problems of a route: its own, and those of its scope, its body and its headers. */
function problemsOf(route: Route): ProblemCode[] {
  const { body } = route.request;
  return [
    ...(route.scope
      ? (["unauthenticated", "insufficient_scope", "local_only", "rate_limited", "keys_unavailable"] as const)
      : []),
    "invalid_request",
    ...(body || route.idempotent ? (["malformed_request"] as const) : []),
    ...(body ? (["request_timeout", "body_too_large", "unsupported_media_type"] as const) : []),
    ...route.problems,
    "internal",
    ...(route.scope
      ? (["agent_error", "agent_unavailable", "agent_timeout", "host_unavailable"] as const)
      : []),
  ];
}

function failures(route: Route): Responses {
  const byStatus = new Map<number, ProblemCode[]>();
  for (const code of new Set(problemsOf(route))) {
    const { status } = PROBLEMS[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  return Object.fromEntries(
    [...byStatus].toSorted(([a], [b]) => a - b).map(([status, codes]) => [status, failure(status, codes)]),
  );
}

function failure(status: number, codes: readonly ProblemCode[]): Responses[string] {
  return {
    description: codes.map((code) => `\`${code}\`: ${PROBLEMS[code].title}`).join(". "),
    headers: { ...COMMON_HEADERS, ...FAILURE_HEADERS[status] } as never,
    content: {
      [PROBLEM_TYPE]: {
        schema: Problem,
        examples: Object.fromEntries(codes.map((code) => [code, { value: example(code) }])),
      },
    },
  };
}

const RETRY_AFTER = {
  "Retry-After": {
    description: "Seconds to wait before the next attempt.",
    schema: { type: "integer", ...INT32, minimum: 0 },
  },
};
const CHALLENGE = {
  "WWW-Authenticate": { description: "The challenge of RFC 6750.", schema: { type: "string" } },
};
const ACCEPT_ENCODING = {
  "Accept-Encoding": {
    description: "`identity` when the body's encoding was refused (RFC 9110, section 12.5.3).",
    schema: { type: "string" },
  },
};
const FAILURE_HEADERS: Record<number, object> = {
  401: CHALLENGE,
  403: CHALLENGE,
  415: ACCEPT_ENCODING,
  429: RETRY_AFTER,
  502: RETRY_AFTER,
  503: RETRY_AFTER,
  504: RETRY_AFTER,
};

function example(code: ProblemCode): z.input<typeof Problem> {
  const { status, title } = PROBLEMS[code];
  return {
    type: `urn:serveraihub:problem:${code}`,
    title,
    status,
    detail: `${title}. The detail names the value and what to do next`,
    instance: "/api/v1/pipelines/runs",
    code,
    request_id: "0b0e0c1c-6f0a-4f5e-9d0a-6a4b5c3d2e1f",
  };
}
