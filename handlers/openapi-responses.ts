import type { OpenAPIRegistry, RouteConfig } from "@asteasolutions/zod-to-openapi";
import type * as z from "zod";

import { INT32 } from "../host-agent/protocol/integers.ts";
import { PROBLEMS, type ProblemCode } from "../host-agent/protocol/problem.ts";
import { ANSWER_EXAMPLES, PROBLEM_EXAMPLES } from "./openapi-examples.ts";
import { type Problem, PROBLEM_TYPE } from "./problem.ts";
import type { Route } from "./route.ts";

type Responses = RouteConfig["responses"];
type HeaderRefs = Record<string, { $ref: string }>;

/** The headers that several answers have, once in the document. */
const HEADERS = {
  // Required, so that tools check that it was sent, and clients need not ask whether it was.
  "X-Request-Id": { description: "The id of this request.", required: true, schema: { type: "string" } },
  "Hub-Auth": {
    description: "`dev` on a Hub without API keys.",
    schema: { type: "string", enum: ["dev"] as string[] },
  },
  "Hub-Scopes": {
    description: "What the API key of the request may do, separated by spaces.",
    schema: { type: "string" },
  },
  "Preference-Applied": {
    description: "`wait=N` when the answer waited for the run's end, for N seconds at most.",
    schema: { type: "string" },
  },
  "Retry-After": {
    description: "Seconds to wait before the next attempt.",
    schema: { type: "integer", ...INT32, minimum: 0 },
  },
  "WWW-Authenticate": { description: "The challenge of RFC 6750.", schema: { type: "string" } },
  "Accept-Encoding": {
    description: "`identity` when the body's encoding was refused (RFC 9110, section 12.5.3).",
    schema: { type: "string" },
  },
} as const;

const COMMON = ["X-Request-Id", "Hub-Auth", "Hub-Scopes"] as const;
const OF_FAILURES: Record<number, keyof typeof HEADERS> = {
  401: "WWW-Authenticate",
  403: "WWW-Authenticate",
  415: "Accept-Encoding",
  429: "Retry-After",
  502: "Retry-After",
  503: "Retry-After",
  504: "Retry-After",
};

/**
 * The answers of routes. What several routes share, such as headers and
 * problems, becomes a component of the registry, and a reference everywhere else.
 */
export function responseWriter(registry: OpenAPIRegistry): (route: Route) => Responses {
  for (const [name, header] of Object.entries(HEADERS)) registry.registerComponent("headers", name, header);
  const registered = new Set<string>();

  function failure(status: number, codes: readonly ProblemCode[]): { $ref: string } {
    const name = codes.map(pascalCase).join("Or");
    if (!registered.has(name)) registry.registerComponent("responses", name, problemResponse(status, codes));
    registered.add(name);
    return { $ref: `#/components/responses/${name}` };
  }

  return (route) => ({
    ...success(route),
    ...Object.fromEntries(
      [...problemsByStatus(route)].map(([status, codes]) => [status, failure(status, codes)]),
    ),
  });
}

function success({ response, waits, operationId }: Route): Responses {
  const { status, description, body, alternatives = {}, alsoWith = {} } = response;
  const example = ANSWER_EXAMPLES[operationId];
  const others = Object.entries(alsoWith).map(([other, why]) => [
    other,
    {
      description: why,
      headers: refs(COMMON) as never,
      content: { "application/json": { schema: body } },
    },
  ]);
  const alternativeContent = Object.entries(alternatives).map(([type, schema]) => [type, { schema }]);
  return {
    [status]: {
      description,
      headers: {
        ...refs([...COMMON, ...(waits ? (["Preference-Applied"] as const) : [])]),
        ...Object.fromEntries((response.headers ?? []).map(({ name, ...header }) => [name, header])),
      } as never,
      content: {
        "application/json": { schema: body, ...(example && { example }) },
        ...Object.fromEntries(alternativeContent),
      },
    },
    ...Object.fromEntries(others),
  };
}

function refs(names: readonly (keyof typeof HEADERS)[]): HeaderRefs {
  return Object.fromEntries(names.map((name) => [name, { $ref: `#/components/headers/${name}` }]));
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

function problemsByStatus(route: Route): Map<number, ProblemCode[]> {
  const byStatus = new Map<number, ProblemCode[]>();
  for (const code of new Set(problemsOf(route))) {
    const { status } = PROBLEMS[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  return byStatus;
}

function problemResponse(status: number, codes: readonly ProblemCode[]) {
  const ofStatus = OF_FAILURES[status];
  return {
    description: codes.map((code) => `\`${code}\`: ${PROBLEMS[code].title}`).join(". "),
    headers: refs([...COMMON, ...(ofStatus ? [ofStatus] : [])]),
    content: {
      [PROBLEM_TYPE]: {
        schema: { $ref: "#/components/schemas/Problem" },
        examples: Object.fromEntries(codes.map((code) => [code, { value: problemExample(code) }])),
      },
    },
  };
}

function problemExample(code: ProblemCode): z.input<typeof Problem> {
  const { status, title } = PROBLEMS[code];
  const { detail, instance, errors, size } = PROBLEM_EXAMPLES[code];
  return {
    type: `urn:serveraihub:problem:${code}`,
    title,
    status,
    detail,
    instance,
    code,
    request_id: "0b0e0c1c-6f0a-4f5e-9d0a-6a4b5c3d2e1f",
    ...(errors && { errors }),
    ...(size !== undefined && { size }),
  };
}

/** `run_not_found` becomes `RunNotFound`. */
function pascalCase(code: ProblemCode): string {
  return code.replaceAll(/(?:^|_)(?<letter>[a-z])/g, (...match) =>
    (match.at(-1) as { letter: string }).letter.toUpperCase(),
  );
}
