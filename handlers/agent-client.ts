import * as z from "zod";

import { ApiProblem, isProblemCode, type ProblemCode } from "../host-agent/protocol/problem.ts";
import { readAtMost } from "../host-agent/protocol/read-bytes.ts";
import {
  AgentHealth,
  type KillOrder,
  LaunchAnswer,
  type LaunchOrder,
  LaunchPreview,
  LOG_HEADERS,
  type PreviewOrder,
  RecipeList,
  RunList,
  RunRecord,
  type RunStatus,
  ScriptContent,
  ScriptList,
  type Source,
} from "../host-agent/protocol/schemas.ts";
import type { SignRequest } from "../host-agent/protocol/signature.ts";

/** The platform's fetch, or anything shaped like it: a service binding, a socket, the agent itself. */
export type Fetch = (request: Request) => Promise<Response>;

export interface AgentOptions {
  /** Where the agent's API lies; only its form matters when `fetch` goes elsewhere. */
  url: string;
  fetch: Fetch;
  /** Signs a request for the agent's door; left out where there is no door. */
  sign?: SignRequest;
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
/** Before the second attempt, so that an agent that is being restarted has a chance. */
const RETRY_PAUSE_MS = 100;
/** An agent that has just started takes nothing signed in a second in which an earlier one was at work. */
const NEXT_SECOND_PAUSE_MS = 1_050;
/** Far above the longest answer: a page of a log is 1 MiB, a list of 500 runs with the longest arguments 33 MiB. */
const MAX_ANSWER_BYTES = 67_108_864;
/** What proxies and tunnels answer when the agent behind them is out of reach; 52x and 530 are Cloudflare's own. */
const GATEWAY_STATUS = /^(?:502|503|504|52\d|530)$/;

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
  /** One attempt, from the signature to the last byte of the answer. */
  async function attempt(path: string, call: Call): Promise<Answer> {
    const { method = "GET", query, body, extraMs = 0, signal } = call;
    const timeout = AbortSignal.timeout(timeoutMs + extraMs);
    // As a Request writes it (`'` as %27): what is signed must be what is sent.
    const target = new URL(`${url}/agent/v1${path}${queryString(query)}`).href;
    const bytes = body === undefined ? undefined : encode(JSON.stringify(body));
    const unsigned = new Headers(bytes && { "content-type": "application/json" });
    const headers = sign ? await sign({ method, url: target, headers: unsigned }, bytes) : unsigned;
    let isAnswered = false;
    try {
      const request = new Request(target, {
        method,
        headers,
        // Elsewhere nobody has any business with what was signed for the agent.
        redirect: "manual",
        signal: signal ? AbortSignal.any([timeout, signal]) : timeout,
        ...(bytes && { body: bytes }),
      });
      const response = await fetch(request);
      isAnswered = true;
      const answer = await readAtMost(response, MAX_ANSWER_BYTES);
      if (answer === undefined) throw new Error(`the answer is longer than ${MAX_ANSWER_BYTES} bytes`);
      return { status: response.status, ok: response.ok, headers: response.headers, bytes: answer };
    } catch (cause) {
      if (timeout.aborted) throw agentTimeout(cause);
      throw isAnswered || isNotHttp(cause) ? agentError(cause) : agentUnavailable(cause);
    }
  }

  /** A second attempt is safe for every call: a GET changes nothing, a launch has its token, a kill is one. */
  async function send(path: string, call: Call): Promise<Answer> {
    const again = async (pauseMs: number): Promise<Answer> => {
      await pause(pauseMs, call.signal);
      return attempt(path, call);
    };
    let answer: Answer;
    try {
      answer = await attempt(path, call);
    } catch (error) {
      const isLost =
        error instanceof ApiProblem && error.code !== "agent_timeout" && call.signal?.aborted !== true;
      if (!isLost) throw error;
      return again(RETRY_PAUSE_MS);
    }
    if (answer.status === 401 && sign) return again(NEXT_SECOND_PAUSE_MS);
    return isOfGateway(answer) ? again(RETRY_PAUSE_MS) : answer;
  }

  async function exchange(path: string, call: Call): Promise<Answer> {
    const answer = await send(path, call);
    if (answer.ok) return answer;
    throw problemOf(answer);
  }

  async function json<S extends z.ZodType>(schema: S, path: string, call: Call = {}): Promise<z.output<S>> {
    const parsed = schema.safeParse(jsonOf(await exchange(path, call)));
    if (!parsed.success) throw agentError(parsed.error);
    return parsed.data;
  }

  return {
    health: () => json(AgentHealth, "/health"),
    listRecipes: () => json(RecipeList, "/recipes"),
    listScripts: (path?: string) => json(ScriptList, "/scripts", { query: { path } }),
    readScript: (path: string) => json(ScriptContent, "/scripts/content", { query: { path } }),
    launch: (order: LaunchOrder) => json(LaunchAnswer, "/runs", { method: "POST", body: order }),
    previewLaunch: (order: PreviewOrder) =>
      json(LaunchPreview, "/runs/preview", { method: "POST", body: order }),
    listRuns: (query: {
      source: Source;
      status?: RunStatus | undefined;
      label?: string | undefined;
      limit: number;
      cursor?: string | undefined;
    }) => json(RunList, "/runs", { query }),
    getRun: (source: Source, runId: string, { waitSeconds = 0, signal }: WaitQuery = {}) =>
      json(RunRecord, `/runs/${runId}`, {
        query: { source, ...(waitSeconds > 0 && { wait: waitSeconds }) },
        extraMs: waitSeconds * 1000,
        signal,
      }),
    killRun: (source: Source, runId: string, order: KillOrder, keyName: string) =>
      json(RunRecord, `/runs/${runId}/kill`, { method: "POST", body: { source, order, key_name: keyName } }),

    async readLog(
      source: Source,
      runId: string,
      { after, maxBytes, waitSeconds, signal }: LogQuery,
    ): Promise<LogPage> {
      const answer = await exchange(`/runs/${runId}/log`, {
        query: { source, after, max_bytes: maxBytes, wait: waitSeconds },
        extraMs: waitSeconds * 1000,
        signal,
      });
      const offset = countHeader(answer, LOG_HEADERS.offset);
      const size = countHeader(answer, LOG_HEADERS.size);
      return { bytes: answer.bytes, offset, size, more: offset < size };
    },
  };
}

/** The agent's answer, read to its end. */
interface Answer {
  status: number;
  ok: boolean;
  headers: Headers;
  bytes: Uint8Array;
}

interface LogQuery {
  after: number;
  maxBytes: number;
  waitSeconds: number;
  signal?: AbortSignal | undefined;
}

interface WaitQuery {
  /** Answer when the run has ended, or after so long. */
  waitSeconds?: number;
  signal?: AbortSignal | undefined;
}

function queryString(query: Call["query"]): string {
  const given = Object.entries(query ?? {}).filter(([, value]) => value !== undefined);
  if (given.length === 0) return "";
  return `?${given.map(([name, value]) => `${name}=${encodeURIComponent(value!)}`).join("&")}`;
}

/** Copied, because not every platform's types say that the encoder's buffer is never a shared one. */
function encode(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new TextEncoder().encode(text));
}

/** Resolves after the time, or as soon as the client hangs up. */
function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    const wake = () => {
      clearTimeout(timer);
      resolve();
    };
    signal?.addEventListener("abort", wake, { once: true });
  });
}

/** True for what the HTTP parser of Node could make nothing of: somebody answers there, but not our agent. */
function isNotHttp(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (String((cause as { code?: unknown }).code).startsWith("HPE_")) return true;
  }
  return false;
}

/** True for an answer that somebody between us and the agent gave in its place. */
function isOfGateway(answer: Answer): boolean {
  return GATEWAY_STATUS.test(String(answer.status)) && !isProblemCode(codeOf(answer));
}

function codeOf(answer: Answer): unknown {
  try {
    return (jsonOf(answer) as { code?: unknown } | null)?.code;
  } catch {
    return undefined;
  }
}

function jsonOf({ bytes }: Answer): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw agentError(cause);
  }
}

function countHeader(response: Answer, name: string): number {
  const value = response.headers.get(name) ?? "";
  if (!/^\d{1,15}$/.test(value)) throw agentError(new Error(`${name}: ${value}`));
  return Number(value);
}

/** What the agent says of its own failures. */
const AgentProblem = z.object({
  code: z.custom<ProblemCode>(isProblemCode),
  detail: z.string(),
  errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
  size: z.int().optional(),
  retry_after: z.int().optional(),
});

/** The agent's own problem; whatever is none is a fault between us and it. */
function problemOf(answer: Answer): ApiProblem {
  if (isOfGateway(answer)) return agentUnavailable(new Error(`a gateway answered ${answer.status}`));
  const parsed = AgentProblem.safeParse(jsonOf(answer));
  if (!parsed.success || parsed.data.code === "internal" || parsed.data.code === "unauthenticated") {
    return agentError(
      new Error(`the agent answered ${answer.status} ${parsed.data?.code ?? "and no problem"}`),
    );
  }
  const { code, detail, errors, size, retry_after } = parsed.data;
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
