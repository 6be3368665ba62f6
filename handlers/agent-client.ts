import * as z from "zod";

import type { Agent } from "../host-agent/protocol/agent.ts";
import { ApiProblem, isProblemCode, type ProblemCode } from "../host-agent/protocol/problem.ts";
import { AgentHealth } from "../host-agent/protocol/health.ts";
import { LaunchAnswer, LaunchPreview } from "../host-agent/protocol/launch.ts";
import { LOG_HEADERS } from "../host-agent/protocol/log.ts";
import { encodeReach, type Reach } from "../host-agent/protocol/reach.ts";
import { RecipeList } from "../host-agent/protocol/recipe.ts";
import { RunList, RunRecord } from "../host-agent/protocol/run.ts";
import { ScriptContent, ScriptList } from "../host-agent/protocol/script.ts";
import { agentError, reachNotUnderstood } from "./agent-problems.ts";
import type { AgentAnswer, AgentCall, AgentTransport } from "./agent-transport.ts";

/**
 * The host-agent behind a transport, one method for each of its routes. Every
 * method throws the agent's own problems, those of the transport, and
 * `agent_error` when an answer does not follow the protocol.
 */
export function agentClient(transport: AgentTransport, reach?: Reach): Agent {
  // A part of the path, because an agent that does not know it must not pass over it: host-agent/door/server.ts says more.
  const base = reach === undefined ? "" : `/within/${encodeReach(reach)}`;

  async function exchange(call: AgentCall): Promise<AgentAnswer> {
    const answer = await transport({ ...call, path: base + call.path });
    if (answer.status === 200) return answer;
    const problem = problemOf(answer);
    throw reach !== undefined && problem.code === "route_not_found" ? reachNotUnderstood(problem) : problem;
  }

  async function get<S extends z.ZodType>(
    schema: S,
    path: string,
    more: Partial<AgentCall> = {},
  ): Promise<z.output<S>> {
    return parse(schema, await exchange({ method: "GET", path, ...more }));
  }

  async function post<S extends z.ZodType>(
    schema: S,
    path: string,
    body: unknown,
    more: Partial<AgentCall> = {},
  ): Promise<z.output<S>> {
    return parse(schema, await exchange({ method: "POST", path, body, ...more }));
  }

  return {
    within: (narrower) => agentClient(transport, narrower),
    health: () => get(AgentHealth, "/health"),
    listRecipes: () => get(RecipeList, "/recipes"),
    listScripts: (path) => get(ScriptList, `/scripts${queryString({ path })}`),
    readScript: (path) => get(ScriptContent, `/scripts/content${queryString({ path })}`),
    launch: (order, signal) => post(LaunchAnswer, "/runs", order, signal && { signal }),
    previewLaunch: (order) => post(LaunchPreview, "/runs/preview", order),
    listRuns: (query) => get(RunList, `/runs${queryString({ ...query })}`),
    getRun: (source, runId, { waitSeconds = 0, keyName, signal } = {}) =>
      waitSeconds === 0
        ? get(RunRecord, `/runs/${runId}?source=${source}`)
        : get(RunRecord, `/runs/${runId}${queryString({ source, wait: waitSeconds, key_name: keyName })}`, {
            extraMs: waitSeconds * 1000,
            signal,
          }),
    killRun: (source, runId, order, { keyName, requestId }) =>
      post(RunRecord, `/runs/${runId}/kill`, { source, order, key_name: keyName, request_id: requestId }),

    async readLog(source, runId, { after, maxBytes, waitSeconds, keyName, signal }) {
      const key_name = waitSeconds > 0 ? keyName : undefined;
      const query = { source, after, max_bytes: maxBytes, wait: waitSeconds, key_name };
      const answer = await exchange({
        method: "GET",
        path: `/runs/${runId}/log${queryString(query)}`,
        extraMs: waitSeconds * 1000,
        signal,
      });
      const offset = countHeader(answer, LOG_HEADERS.offset);
      const size = countHeader(answer, LOG_HEADERS.size);
      if (!answer.bytes) throw agentError(new Error("the page of the log is not bytes"));
      return { bytes: answer.bytes, offset, size, more: offset < size };
    },
  };
}

function queryString(query: Record<string, string | number | undefined>): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined);
  if (given.length === 0) return "";
  return `?${given.map(([name, value]) => `${name}=${encodeURIComponent(value!)}`).join("&")}`;
}

function parse<S extends z.ZodType>(schema: S, answer: AgentAnswer): z.output<S> {
  const parsed = schema.safeParse(answer.json);
  if (!parsed.success) throw agentError(parsed.error);
  return parsed.data;
}

function countHeader({ headers }: AgentAnswer, name: string): number {
  const value = headers?.[name] ?? "";
  if (!/^\d{1,16}$/.test(value)) throw agentError(new Error(`${name}: ${value}`));
  return Number(value);
}

/** The agent's problem, as it is sent. */
const AgentProblem = z.object({
  code: z.custom<ProblemCode>(isProblemCode),
  detail: z.string(),
  errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
  size: z.int().optional(),
  retry_after: z.int().optional(),
});

/** The agent's own problem; any other answer is a fault between edge and agent. */
function problemOf({ status, json }: AgentAnswer): ApiProblem {
  const parsed = AgentProblem.safeParse(json);
  if (!parsed.success || parsed.data.code === "internal" || parsed.data.code === "unauthenticated") {
    return agentError(new Error(`the agent answered ${status} ${parsed.data?.code ?? "without a problem"}`));
  }
  const { code, detail, errors, size, retry_after } = parsed.data;
  return new ApiProblem(code, detail, {
    ...(errors && { errors }),
    ...(size !== undefined && { size }),
    ...(retry_after !== undefined && { retryAfterSeconds: retry_after }),
  });
}
