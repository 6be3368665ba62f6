import { ApiProblem } from "../../host-agent/protocol/problem.ts";
import { defineRoute } from "../route.ts";
import { Health } from "../schemas.ts";

export const health = defineRoute({
  method: "get",
  path: "/healthz",
  operationId: "health",
  tag: "Service",
  summary: "Report whether the service works",
  description:
    "Public. 200 while requests can be served, also when the service is degraded; 503 when they cannot.",
  request: {},
  response: {
    status: 200,
    description: "The service works, or is degraded",
    body: Health,
    alsoWith: { 503: "Requests cannot be served" },
  },
  problems: [],

  async handle(_input, { agent, keys }) {
    const ring = await keys();
    const answer = await agent.health().catch((error: unknown) => {
      if (error instanceof ApiProblem) return undefined;
      throw error;
    });
    const problems = [
      ...(ring.problem === undefined ? [] : [ring.problem]),
      ...(answer ? answer.problems : ["the host-agent cannot be reached"]),
    ];
    const isServing = answer !== undefined && ring.mode !== "unavailable";
    return {
      status: isServing ? 200 : 503,
      json: {
        status: problems.length === 0 ? "ok" : "degraded",
        mode: ring.mode,
        agent: answer?.status ?? "unreachable",
        problems,
      },
    };
  },
});
