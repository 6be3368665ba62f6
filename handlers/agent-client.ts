import type * as z from "zod";

import { ApiProblem, type FieldError, isProblemCode } from "../host-agent/protocol/problem.ts";
import {
  AgentHealth,
  type KillOrder,
  LaunchAnswer,
  type LaunchOrder,
  LOG_HEADERS,
  RecipeList,
  RunList,
  RunRecord,
  type RunStatus,
  ScriptContent,
  ScriptList,
  type Source,
} from "../host-agent/protocol/schemas.ts";

/** The platform's fetch, or anything shaped like it: a service binding, a socket, the agent itself. */
export type Fetch = (request: Request) => Promise<Response>;

export interface AgentOptions {
  /** Where the agent's API lies; only its form matters when `fetch` goes elsewhere. */
  url: string;
  fetch: Fetch;
  /** Signs a request for the agent's door; left out where there is no door. */
  sign?: (request: Request) => Promise<Request>;
  timeoutMs?: number;
}

export interface LogPage {
  bytes: Uint8Array;
  offset: number;
  size: number;
  more: boolean;
}

export type Agent = ReturnType<typeof agentClient>;

const DEFAULT_TIMEOUT_MS = 15_000;
const RETRY_AFTER_SECONDS = 2;

interface Call {
  method?: "GET" | "POST";
  query?: Record<string, string | number | undefined>;
  body?: unknown;
  /** How long the agent may take beyond the usual. */
  extraMs?: number;
  /** The client's own signal: when it hangs up, so do we. */
  signal?: AbortSignal | undefined;
}

/**
 * Calls the host-agent: one method for each of its routes. Every method throws
 * the agent's own problems, and `agent_unavailable`, `agent_timeout` or
 * `agent_error` when it gives no usable answer.
 */
export function agentClient({ url, fetch, sign, timeoutMs = DEFAULT_TIMEOUT_MS }: AgentOptions) {
  async function attempt(path: string, call: Call): Promise<Response> {
    const { method = "GET", query, body, extraMs = 0, signal } = call;
    const timeout = AbortSignal.timeout(timeoutMs + extraMs);
    const request = new Request(`${url}/agent/v1${path}${queryString(query)}`, {
      method,
      signal: signal ? AbortSignal.any([timeout, signal]) : timeout,
      ...(body !== undefined && {
        body: JSON.stringify(body),
        headers: { "content-type": "application/json" },
      }),
    });
    try {
      return await fetch(sign ? await sign(request) : request);
    } catch (cause) {
      throw timeout.aborted ? agentTimeout(cause) : agentUnavailable(cause);
    }
  }

  /** A second attempt is safe for every call: a GET changes nothing, a launch has its token, a kill is one. */
  async function send(path: string, call: Call): Promise<Response> {
    try {
      return await attempt(path, call);
    } catch (error) {
      if (!(error instanceof ApiProblem) || error.code !== "agent_unavailable" || call.signal?.aborted)
        throw error;
      return attempt(path, call);
    }
  }

  async function exchange(path: string, call: Call): Promise<Response> {
    const response = await send(path, call);
    if (response.ok) return response;
    throw await problemOf(response);
  }

  async function json<S extends z.ZodType>(schema: S, path: string, call: Call = {}): Promise<z.output<S>> {
    const response = await exchange(path, call);
    return parseAnswer(
      schema,
      await response.json().catch((cause: unknown) => Promise.reject(agentError(cause))),
    );
  }

  return {
    health: () => json(AgentHealth, "/health"),
    listRecipes: () => json(RecipeList, "/recipes"),
    listScripts: (path?: string) => json(ScriptList, "/scripts", { query: { path } }),
    readScript: (path: string) => json(ScriptContent, "/scripts/content", { query: { path } }),
    launch: (order: LaunchOrder) => json(LaunchAnswer, "/runs", { method: "POST", body: order }),
    listRuns: (query: {
      source: Source;
      status?: RunStatus | undefined;
      limit: number;
      cursor?: string | undefined;
    }) => json(RunList, "/runs", { query }),
    getRun: (source: Source, runId: string) => json(RunRecord, `/runs/${runId}`, { query: { source } }),
    killRun: (source: Source, runId: string, order: KillOrder, keyName: string) =>
      json(RunRecord, `/runs/${runId}/kill`, { method: "POST", body: { source, order, key_name: keyName } }),

    async readLog(
      source: Source,
      runId: string,
      { after, maxBytes, waitSeconds, signal }: LogQuery,
    ): Promise<LogPage> {
      const response = await exchange(`/runs/${runId}/log`, {
        query: { source, after, max_bytes: maxBytes, wait: waitSeconds },
        extraMs: waitSeconds * 1000,
        signal,
      });
      const offset = countHeader(response, LOG_HEADERS.offset);
      const size = countHeader(response, LOG_HEADERS.size);
      const bytes = await response.arrayBuffer().catch((cause: unknown) => Promise.reject(agentError(cause)));
      return { bytes: new Uint8Array(bytes), offset, size, more: offset < size };
    },
  };
}

interface LogQuery {
  after: number;
  maxBytes: number;
  waitSeconds: number;
  signal?: AbortSignal | undefined;
}

function queryString(query: Call["query"]): string {
  const given = Object.entries(query ?? {}).filter(([, value]) => value !== undefined);
  if (given.length === 0) return "";
  return `?${given.map(([name, value]) => `${name}=${encodeURIComponent(value!)}`).join("&")}`;
}

function parseAnswer<S extends z.ZodType>(schema: S, answer: unknown): z.output<S> {
  const parsed = schema.safeParse(answer);
  if (!parsed.success) throw agentError(parsed.error);
  return parsed.data;
}

function countHeader(response: Response, name: string): number {
  const value = response.headers.get(name) ?? "";
  if (!/^\d{1,15}$/.test(value)) throw agentError(new Error(`${name}: ${value}`));
  return Number(value);
}

/** The agent's own problem; whatever is none is a fault between us and it. */
async function problemOf(response: Response): Promise<ApiProblem> {
  const answer = (await response.json().catch(() => ({}))) as {
    code?: unknown;
    detail?: unknown;
    errors?: FieldError[];
    size?: number;
    retry_after?: number;
  };
  const { code, detail, errors, size, retry_after } = answer;
  if (
    !isProblemCode(code) ||
    typeof detail !== "string" ||
    code === "internal" ||
    code === "unauthenticated"
  ) {
    return agentError(new Error(`the agent answered ${response.status} ${String(code)}`));
  }
  return new ApiProblem(code, detail, {
    ...(errors && { errors }),
    ...(size !== undefined && { size }),
    ...(retry_after !== undefined && { retryAfterSeconds: retry_after }),
  });
}

function agentUnavailable(cause: unknown): ApiProblem {
  return new ApiProblem("agent_unavailable", "The host cannot be reached; its runs go on. Try again", {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    cause,
  });
}

function agentTimeout(cause: unknown): ApiProblem {
  return new ApiProblem("agent_timeout", "The host did not answer in time; its runs go on. Try again", {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    cause,
  });
}

function agentError(cause: unknown): ApiProblem {
  return new ApiProblem("agent_error", "The host gave no usable answer; the operator's log says more", {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    cause,
  });
}
