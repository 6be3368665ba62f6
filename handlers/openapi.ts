import { OpenAPIRegistry, OpenApiGeneratorV31, type RouteConfig } from "@asteasolutions/zod-to-openapi";
import * as z from "zod";

import { PROBLEMS, type ProblemCode } from "../host-agent/protocol/problem.ts";
import { MAX_RUN_WAIT_SECONDS } from "../host-agent/protocol/run.ts";
import { MAX_IDEMPOTENCY_KEY_BYTES } from "./idempotency.ts";
import { Problem, PROBLEM_TYPE } from "./problem.ts";
import type { ResponseHeader, Route } from "./route.ts";

const TITLE = "Enterprise API — Pipelines & Scripts";
const VERSION = "1.0.0";
const INTRODUCTION = `Launch curated pipelines and allow-listed \`.sh\` scripts on the operator's Hub host, follow their logs, and stop them.

### Authentication

Send \`Authorization: Bearer <key>\`; the operator issues keys. Each operation names the scope it needs in \`x-required-scopes\`; the scope \`*\` grants them all. A Hub without keys serves everyone and reports it with the header \`Hub-Auth: dev\`.

### Retries

Send an \`Idempotency-Key\` with a launch: any string that you choose for this launch, such as \`my-job-2026-05-15-001\`. For an hour the same key and body give the same run (\`Idempotent-Replayed: true\`), however often you retry, and from any place; the same key with another body is answered with 422. A launch that failed can be tried again with its key.

Try again after a lost connection and after 429, 500, 502, 503 and 504; wait as long as \`Retry-After\` says, if the answer has it. Other errors do not change until you change the request.

### Waiting and trying out

\`Prefer: wait=30\` with a launch, or with a run's record, delays the answer until the run ends, for 60 seconds at most; \`Preference-Applied\` confirms it. A \`callback_url\` receives the final record, signed. \`"dry_run": true\` answers 200 with the command, folder, log and limits, and whether the run would start now; nothing is started.

### Tailing a log

Ask for \`after=0\`, print \`chunk\`, pass \`offset\` as the next \`after\`. With \`wait=20\` the answer comes as soon as there are new bytes, so the loop needs no sleep; give the client a longer timeout. After a lost connection ask for the same \`after\` again: no byte is missed or repeated. A run has ended when its \`ended_at\` is set. Its log is complete then, so one more read brings the last lines:

\`\`\`python
def follow(client, run_url):
    offset, ended = 0, False
    while True:
        query = {"after": offset, "max_bytes": 65536, "wait": 20}
        page = client.get(f"{run_url}/logs", params=query).json()
        print(page["chunk"], end="", flush=True)
        offset = page["offset"]
        if page["more"]:
            continue
        if ended:
            return client.get(run_url).json()
        ended = client.get(run_url).json()["ended_at"] is not None
\`\`\`

### How a run ended

\`status\` says it in a word, \`status_reason\` in a sentence, \`exit_code\` as a number. \`unknown\` means that nothing could see how the run ended.

### Stopping

\`POST …/kill\` sends SIGTERM to every process of the run; \`{"signal": "SIGINT", "grace_seconds": 10}\` sends SIGINT, and SIGKILL after ten seconds. \`ended_at\` stays null until every process of the run has ended. A second kill sends no signal, unless it asks for more (SIGKILL, or a grace period). For a run that ended by itself the answer is 409.

### Errors

Every error is \`application/problem+json\` (RFC 9457). Branch on \`code\`, show \`detail\`, and send \`request_id\` to the operator; \`errors\` names each invalid field.`;

type Responses = RouteConfig["responses"];

/** The OpenAPI 3.1 document of the routes, as plain JSON. `publicUrl` is the address that clients use, if it is known. */
export function openapi(routes: readonly Route[], publicUrl = "/") {
  const registry = new OpenAPIRegistry();
  registry.registerComponent("securitySchemes", "bearer", {
    type: "http",
    scheme: "bearer",
    description: "An API key of the operator's keys file.",
  });
  for (const route of routes) registry.registerPath(operation(route));
  return new OpenApiGeneratorV31(registry.definitions, { sortComponents: "alphabetically" }).generateDocument(
    {
      openapi: "3.1.0",
      info: {
        title: TITLE,
        version: VERSION,
        description: INTRODUCTION,
        license: { name: "MIT", identifier: "MIT" },
      },
      servers: [{ url: publicUrl, description: "The Hub that serves this document" }],
      tags: [
        { name: "Pipelines", description: "The curated recipes shipped with the Hub." },
        { name: "Scripts", description: "`.sh` files inside the operator's script roots." },
        { name: "Service", description: "The service itself." },
      ],
    },
  );
}

function operation(route: Route): RouteConfig {
  const { params, query, body } = route.request;
  return {
    method: route.method,
    path: route.path.replaceAll(/:(\w+)/g, "{$1}"),
    operationId: route.operationId,
    tags: [route.tag],
    summary: route.summary,
    description: route.description,
    security: route.scope ? [{ bearer: [] }] : [],
    ...(route.scope && { "x-required-scopes": [route.scope] }),
    request: {
      ...(params && { params: params as z.ZodObject }),
      ...(query && { query: query as z.ZodObject }),
      headers: requestHeaders(route),
      ...(body && {
        body: { required: !route.bodyOptional, content: { "application/json": { schema: body } } },
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
          description: `\`wait=N\` (RFC 7240): answer when the run has ended, or after N seconds, at most ${MAX_RUN_WAIT_SECONDS}. Other preferences are ignored.`,
          example: "wait=30",
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
    schema: { type: "string" as const, const: "dev" },
  },
  "Hub-Scopes": {
    description: "What the API key of the request may do, separated by spaces.",
    schema: { type: "string" as const },
  },
};

const PREFERENCE_APPLIED: ResponseHeader = {
  name: "Preference-Applied",
  description: "`wait=N` when the answer waited for the run's end, for N seconds at most.",
  schema: z.string(),
};

function success({ response, waits }: Route): Responses {
  const { status, description, body, alternatives = {}, alsoWith = {} } = response;
  const headers = [...(response.headers ?? []), ...(waits ? [PREFERENCE_APPLIED] : [])];
  const sameBody = Object.entries(alsoWith).map(
    ([other, why]) => [other, { description: why, body }] as const,
  );
  const others = [...sameBody, ...Object.entries(response.others ?? {})].map(([other, further]) => [
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
        ...Object.fromEntries(
          headers.map((header) => [
            header.name,
            {
              description: header.description,
              schema: z.toJSONSchema(header.schema, { target: "draft-2020-12" }),
            },
          ]),
        ),
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
  "Retry-After": { description: "Seconds to wait before the next attempt.", schema: { type: "integer" } },
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
