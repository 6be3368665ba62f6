import { ApiProblem, isProblemCode } from "../host-agent/protocol/problem.ts";
import { readAtMost } from "../host-agent/protocol/read-bytes.ts";
import { MAX_SKEW_SECONDS, type SignRequest } from "../host-agent/protocol/signature.ts";
import { agentError, agentTimeout, agentUnavailable, signatureRefused } from "./agent-problems.ts";

/** One call of the agent's API as data. */
export interface AgentCall {
  method: "GET" | "POST";
  /** Under /agent/v1, with its query. */
  path: string;
  /** JSON; undefined for a call without a body. */
  body?: unknown;
  /** How much longer than usual the agent may take, in milliseconds. */
  extraMs?: number;
  /** Aborts when the client has closed the connection. */
  signal?: AbortSignal | undefined;
}

/** The agent's answer: JSON, or the bytes of a log. */
export interface AgentAnswer {
  status: number;
  /** Keyed by their lower-case names. */
  headers?: Readonly<Record<string, string>>;
  json?: unknown;
  bytes?: Uint8Array;
}

/** Sends a call to the agent and returns its answer. */
export type AgentTransport = (call: AgentCall) => Promise<AgentAnswer>;

/** The platform's fetch, or anything shaped like it: a service binding, a socket. */
export type Fetch = (request: Request) => Promise<Response>;

/** An agent that is reached over HTTP. */
export interface RemoteAgent {
  /** The origin of the agent's API. Any origin will do when `fetch` does not use it. */
  url: string;
  fetch: Fetch;
  /** Signs a request; omitted when the agent does not authenticate its callers. */
  sign?: SignRequest;
  timeoutMs?: number;
  /** The clock by which `sign` signs, in epoch milliseconds; Date.now when omitted. */
  now?: () => number;
}

const DEFAULT_TIMEOUT_MS = 15_000;
/** Before the second attempt, so that an agent that restarts can answer it. */
const RETRY_PAUSE_MS = 100;
/** An agent that has just started refuses a signature from a second in which an earlier agent still ran. */
const NEXT_SECOND_PAUSE_MS = 1_050;
/** Far above the longest answer: a page of a log is 1 MiB, a list of 500 runs with the longest arguments 33 MiB. */
const MAX_ANSWER_BYTES = 67_108_864;
/** The statuses of proxies and tunnels that cannot reach the agent; 52x and 530 are Cloudflare's. */
const GATEWAY_STATUS = /^(?:502|503|504|52\d|530)$/;

/**
 * Sends calls over HTTP, each signed. A call whose request or answer is lost is
 * tried once more; then it throws `agent_unavailable`, `agent_timeout` or `agent_error`.
 */
export function httpTransport(agent: RemoteAgent): AgentTransport {
  const { sign } = agent;

  /** A second attempt is safe for every call: a GET changes nothing, a launch has its token, and a kill may be repeated. */
  async function send(call: AgentCall): Promise<AgentAnswer> {
    const again = async (pauseMs: number): Promise<AgentAnswer> => {
      await pause(pauseMs, call.signal);
      return attempt(agent, call);
    };
    let answer: AgentAnswer;
    try {
      answer = await attempt(agent, call);
    } catch (error) {
      const isLost =
        error instanceof ApiProblem && error.code !== "agent_timeout" && call.signal?.aborted !== true;
      if (!isLost) throw error;
      return again(RETRY_PAUSE_MS);
    }
    if (answer.status === 401 && sign) return again(NEXT_SECOND_PAUSE_MS);
    return isOfGateway(answer) ? again(RETRY_PAUSE_MS) : answer;
  }

  return async (call) => {
    const answer = await send(call);
    if (isOfGateway(answer)) throw agentUnavailable(new Error(`a gateway answered ${answer.status}`));
    if (answer.status === 401 && sign) throw signatureRefused(clockDifference(answer, agent.now ?? Date.now));
    return answer;
  };
}

/** How many seconds this clock is ahead of the one that dated the answer; 0 within what a signature allows. */
function clockDifference({ headers }: AgentAnswer, now: () => number): number {
  const theirs = Date.parse(headers?.["date"] ?? "");
  const seconds = Math.round((now() - theirs) / 1000);
  return Math.abs(seconds) > MAX_SKEW_SECONDS ? seconds : 0;
}

/** One attempt, from the signature to the last byte of the answer. */
async function attempt({ url, fetch, sign, timeoutMs }: RemoteAgent, call: AgentCall): Promise<AgentAnswer> {
  const { method, body, extraMs = 0, signal } = call;
  const timeout = AbortSignal.timeout((timeoutMs ?? DEFAULT_TIMEOUT_MS) + extraMs);
  // As a Request writes it (`'` as %27): the signed URL must be the sent one.
  const target = new URL(`${url}/agent/v1${call.path}`).href;
  const bytes = body === undefined ? undefined : encode(JSON.stringify(body));
  const unsigned = new Headers(bytes && { "content-type": "application/json" });
  const headers = sign ? await sign({ method, url: target, headers: unsigned }, bytes) : unsigned;
  let isAnswered = false;
  try {
    const request = new Request(target, {
      method,
      headers,
      // No other server may receive a request that was signed for the agent.
      redirect: "manual",
      signal: signal ? AbortSignal.any([timeout, signal]) : timeout,
      ...(bytes && { body: bytes }),
    });
    const response = await fetch(request);
    isAnswered = true;
    return await readAnswer(response);
  } catch (cause) {
    if (timeout.aborted) throw agentTimeout(cause);
    throw isAnswered || isNotHttp(cause) ? agentError(cause) : agentUnavailable(cause);
  }
}

async function readAnswer(response: Response): Promise<AgentAnswer> {
  const bytes = await readAtMost(response, MAX_ANSWER_BYTES);
  if (bytes === undefined) throw new Error(`the answer is longer than ${MAX_ANSWER_BYTES} bytes`);
  const headers = Object.fromEntries(response.headers);
  const { status } = response;
  return isJson(headers["content-type"])
    ? { status, headers, json: parse(bytes) }
    : { status, headers, bytes };
}

function isJson(type: string | undefined): boolean {
  return /^application\/json\b/.test(type ?? "");
}

/** Undefined when the bytes are not JSON: no schema accepts that. */
function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined;
  }
}

/** Copied, because the types of some platforms allow the encoder's buffer to be a shared one. */
function encode(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new TextEncoder().encode(text));
}

/** Resolves after the time, or as soon as the client closes the connection. */
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

/** True for an answer that Node's HTTP parser rejects: another server than the agent answers there. */
function isNotHttp(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (String((cause as { code?: unknown }).code).startsWith("HPE_")) return true;
  }
  return false;
}

/** True for an answer of a gateway in front of the agent. */
function isOfGateway({ status, json }: AgentAnswer): boolean {
  return (
    GATEWAY_STATUS.test(String(status)) && !isProblemCode((json as { code?: unknown } | undefined)?.code)
  );
}
