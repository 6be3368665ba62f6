import type { Host } from "./hosts.ts";
import { CliError, EXIT } from "./exit.ts";
import { networkFailure } from "./network-error.ts";

export interface Call {
  query?: Record<string, string | number | undefined>;
  headers?: Record<string, string>;
  body?: unknown;
  /** How long the answer may take, in seconds. */
  timeoutSeconds?: number;
  signal?: AbortSignal | undefined;
}

export type Api = ReturnType<typeof hubApi>;

const TIMEOUT_SECONDS = 30;
/** Answers after which the same request may be sent again. */
const TRANSIENT_STATUS = new Set([408, 429, 502, 503, 504]);

const HOW_TO_GET_A_HUB = "Start a Hub with `npm start`, or say which one with HUB_URL or `hub login`";

/** The Hub gave no answer, or one that says no. */
export class ApiError extends CliError {
  /** HTTP's status, 0 when there was no answer. */
  readonly status: number;
  /** The problem's stable code, if it has one. */
  readonly code: string | undefined;
  /** Asking again may help. */
  readonly transient: boolean;
  /** No server can have seen the request. */
  readonly isUnsent: boolean;
  override readonly advice: string | undefined;
  readonly retryAfterSeconds: number | undefined;
  /** The log's size, with 416. */
  readonly size: number | undefined;

  constructor(
    message: string,
    facts: {
      status?: number;
      code?: string;
      transient?: boolean;
      isUnsent?: boolean;
      advice?: string | undefined;
      retryAfterSeconds?: number;
      size?: number;
    } = {},
  ) {
    super(message, EXIT.unavailable);
    this.status = facts.status ?? 0;
    this.code = facts.code;
    this.transient = facts.transient ?? false;
    this.isUnsent = facts.isUnsent ?? false;
    this.advice = facts.advice;
    this.retryAfterSeconds = facts.retryAfterSeconds;
    this.size = facts.size;
  }
}

/** Asks one Hub. Every failure is an ApiError whose message can be shown; an abort by `signal` rejects as it is. */
export function hubApi(host: Host) {
  async function ask(method: string, path: string, call: Call = {}): Promise<Response> {
    const url = new URL(host.url + path);
    for (const [name, value] of Object.entries(call.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const timeout = AbortSignal.timeout((call.timeoutSeconds ?? TIMEOUT_SECONDS) * 1000);
    try {
      const response = await fetch(url, {
        method,
        // A redirected POST would become a GET: the right address is the user's to give.
        redirect: "manual",
        signal: call.signal ? AbortSignal.any([call.signal, timeout]) : timeout,
        headers: {
          accept: "application/json",
          "user-agent": "hub-cli/1.0",
          ...(host.key !== undefined && { authorization: `Bearer ${host.key}` }),
          ...(call.body !== undefined && { "content-type": "application/json" }),
          ...call.headers,
        },
        ...(call.body !== undefined && { body: JSON.stringify(call.body) }),
      });
      if (response.ok) return response;
      throw await refusal(response, host);
    } catch (error) {
      throw explained(error, call.signal);
    }
  }

  /** Reading a body can fail as asking can. */
  async function body<T>(read: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    try {
      return await read();
    } catch (error) {
      throw explained(error, signal);
    }
  }

  function explained(error: unknown, signal: AbortSignal | undefined): unknown {
    if (error instanceof ApiError || signal?.aborted) return error;
    const failure = networkFailure(error);
    if (!failure) return error;
    return new ApiError(`cannot reach ${host.url}: ${failure.reason}`, {
      ...failure,
      advice: host.isGuess && HOW_TO_GET_A_HUB,
    });
  }

  /** The JSON object of an answer, with at least these fields, and the answer's headers. */
  async function withHeaders<T>(
    method: string,
    path: string,
    fields: readonly (keyof T & string)[],
    call?: Call,
  ): Promise<{ value: T; headers: Headers }> {
    const response = await ask(method, path, call);
    const text = await body(() => response.text(), call?.signal);
    const value = checked(parseJson(text), fields, () => describe(response, host)) as T;
    return { value, headers: response.headers };
  }

  return {
    host,

    withHeaders,

    /** The JSON object of an answer, with at least these fields. */
    async json<T>(...call: Parameters<typeof withHeaders<T>>): Promise<T> {
      return (await withHeaders<T>(...call)).value;
    },

    /** The answer as it is, and its bytes. */
    async bytes(path: string, call: Call): Promise<{ headers: Headers; bytes: Uint8Array }> {
      const response = await ask("GET", path, { ...call, headers: { accept: "text/plain" } });
      const bytes = await body(async () => new Uint8Array(await response.arrayBuffer()), call.signal);
      return { headers: response.headers, bytes };
    },
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function checked(value: unknown, fields: readonly string[], answer: () => string): object {
  if (typeof value !== "object" || value === null) {
    throw new ApiError(`${answer()}, which is no JSON object: is this the address of a Hub?`);
  }
  const missing = fields.filter((field) => !Object.hasOwn(value, field));
  if (missing.length > 0) {
    throw new ApiError(`${answer()} without ${missing.join(", ")}: the server is no Hub, or an older one`);
  }
  return value;
}

function describe(response: Response, { url }: Host): string {
  const type = response.headers.get("content-type")?.split(";", 1)[0] ?? "no content type";
  return `${url} answered ${response.status} with ${type}`;
}

/** What an answer that is not 2xx says. */
async function refusal(response: Response, host: Host): Promise<ApiError> {
  const { status, headers } = response;
  const problem = (parseJson(await response.text()) ?? {}) as Record<string, unknown>;
  const code = typeof problem["code"] === "string" ? problem["code"] : undefined;
  const retryAfterSeconds = retryAfter(headers.get("retry-after"));
  const facts = {
    status,
    ...(code !== undefined && { code }),
    ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
    ...(typeof problem["size"] === "number" && { size: problem["size"] }),
    transient: TRANSIENT_STATUS.has(status),
  };
  return new ApiError(sentence(response, host, problem["detail"], code), facts);
}

function sentence(response: Response, host: Host, detail: unknown, code: string | undefined): string {
  const { status, headers } = response;
  if (status === 401) {
    return host.key === undefined
      ? `${host.url} wants an API key: set HUB_KEY, or store one with \`hub login\``
      : `${host.url} does not accept this API key: it is wrong, expired or revoked`;
  }
  if (status >= 300 && status < 400) {
    return `${host.url} redirects to ${headers.get("location") ?? "elsewhere"}: use that address as HUB_URL`;
  }
  if (code === "route_not_found" || code === "method_not_allowed" || (code === undefined && status === 404)) {
    return `${host.url} has no such route: the server is no Hub, or an older one`;
  }
  if (code === undefined || typeof detail !== "string") return describe(response, host);
  const requestId = headers.get("x-request-id");
  return `${detail} (${code}${requestId === null || status < 500 ? "" : `, request ${requestId}`})`;
}

/** Retry-After in seconds: a number or a date (RFC 9110, 10.2.3). */
function retryAfter(value: string | null): number | undefined {
  if (value === null) return undefined;
  const seconds = /^\d{1,9}$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : undefined;
}
