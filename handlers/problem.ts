import * as z from "zod";

import { INT32, INT64 } from "../host-agent/protocol/integers.ts";
import { type ApiProblem, PROBLEMS } from "../host-agent/protocol/problem.ts";
import type { Reply } from "./reply.ts";

/** The body of every error (RFC 9457). */
export const Problem = z
  .object({
    type: z.string().meta({
      description: "A URN of the code.",
      example: "urn:serveraihub:problem:run_not_found",
    }),
    title: z.string().meta({ example: PROBLEMS.run_not_found.title }),
    status: z.int().meta({ ...INT32, example: 404 }),
    detail: z.string().meta({ description: "What is wrong, with which value, and what to do next." }),
    instance: z.string().meta({ description: "The path of the request." }),
    code: z.enum(Object.keys(PROBLEMS) as [string, ...string[]]).meta({
      description: "Stable, for programs.",
      example: "run_not_found",
    }),
    request_id: z.string().meta({ description: "Also in the X-Request-Id header. Send it to the operator." }),
    errors: z
      .array(z.object({ path: z.string().meta({ example: "query.limit" }), message: z.string() }))
      .optional()
      .meta({ description: "Each invalid field." }),
    size: z
      .int()
      .optional()
      .meta({ ...INT64, description: "The log's size in bytes, with `offset_beyond_end`." }),
  })
  .meta({ id: "Problem" });

/** The content type of every error (RFC 9457). */
export const PROBLEM_TYPE = "application/problem+json";

/** The answer for a problem. */
export function problemReply(
  problem: ApiProblem,
  { path, requestId }: { path: string; requestId: string },
): Reply {
  const { errors, size, retryAfterSeconds, headers } = problem.extras;
  return {
    status: problem.status,
    headers: {
      "content-type": PROBLEM_TYPE,
      ...headers,
      ...(retryAfterSeconds !== undefined && { "retry-after": String(retryAfterSeconds) }),
    },
    json: {
      type: `urn:serveraihub:problem:${problem.code}`,
      title: PROBLEMS[problem.code].title,
      status: problem.status,
      detail: problem.message,
      instance: path,
      code: problem.code,
      request_id: requestId,
      errors,
      size,
    },
  };
}
