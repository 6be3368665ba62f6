import type * as z from "zod";

import type { Health as HealthSchema } from "../../handlers/schemas.ts";
import type { FieldError } from "../../host-agent/protocol/problem.ts";
import type { LaunchPreview } from "../../host-agent/protocol/launch.ts";
import type { RecipeList } from "../../host-agent/protocol/recipe.ts";
import type { KillOrder, RunList, RunRecord, RunStatus, Source } from "../../host-agent/protocol/run.ts";
import type { ScriptContent, ScriptList } from "../../host-agent/protocol/script.ts";
import { createStore } from "./store.ts";

export type Health = z.infer<typeof HealthSchema>;

interface Problem {
  code: string;
  detail: string;
  size?: number;
  errors?: readonly FieldError[];
}

/** An answer of the API that says no: RFC 9457 with a stable code. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  readonly code: string;
  /** The log's size, with `offset_beyond_end`. */
  readonly size: number | undefined;
  /** The invalid fields, with `invalid_request`. */
  readonly errors: readonly FieldError[];
  readonly retryAfterSeconds: number;

  constructor(status: number, { code, detail, size, errors = [] }: Problem, retryAfterSeconds = 0) {
    super(detail);
    this.status = status;
    this.retryAfterSeconds = retryAfterSeconds;
    this.code = code;
    this.size = size;
    this.errors = errors;
  }
}

/** No answer at all: the network, or the Hub, is away. */
export class NoAnswer extends Error {
  override readonly name = "NoAnswer";
}

const RETRY_MS = 2_000;

/** How many milliseconds to wait before the same request is made again; Infinity where that would not help. */
export function pauseBeforeRetry(error: unknown): number {
  if (!(error instanceof ApiError)) return RETRY_MS;
  const isPassing = error.status === 429 || error.status >= 500;
  return isPassing ? Math.max(RETRY_MS, error.retryAfterSeconds * 1000) : Infinity;
}

/** How the last request went, for the bar that tells people what to do. */
export type Connection = { is: "fine" } | { is: "hub-away" } | { is: "host-away"; detail: string };
export const connection = createStore<Connection>({ is: "fine" });

/** A page of a log as bytes; `offset` is the next byte to ask for. */
export interface LogBytes {
  bytes: Uint8Array;
  offset: number;
  size: number;
  more: boolean;
}

export interface ReadLog {
  after: number;
  maxBytes: number;
  waitSeconds?: number;
  signal?: AbortSignal | undefined;
}

export type Api = ReturnType<typeof createApi>;

type Init = Omit<RequestInit, "headers"> & { headers?: Record<string, string> };

const TIMEOUT_MS = 20_000;
const FINE: Connection = { is: "fine" };

/**
 * The public API, as this page uses it. `key` may be undefined on a Hub that
 * asks for none; `onRefused` hears that the key is not accepted (any more).
 * Methods throw ApiError, NoAnswer, or the AbortError of their signal.
 */
export function createApi(key: string | undefined, onRefused: (detail: string) => void) {
  async function call(path: string, init: Init = {}, waitSeconds = 0): Promise<Response> {
    const timeout = AbortSignal.timeout(TIMEOUT_MS + waitSeconds * 1000);
    const response = await fetch(path, {
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      referrerPolicy: "no-referrer",
      ...init,
      headers: { ...(key !== undefined && { authorization: `Bearer ${key}` }), ...init.headers },
      signal: init.signal ? AbortSignal.any([init.signal, timeout]) : timeout,
    }).catch((error: unknown) => {
      if (init.signal?.aborted) throw error;
      connection.set({ is: "hub-away" });
      throw new NoAnswer("The Hub does not answer");
    });
    if (response.ok) {
      connection.set(FINE);
      return response;
    }
    const error = await problemOf(response);
    if (response.status === 401) onRefused(error.message);
    if (response.status >= 502) connection.set({ is: "host-away", detail: error.message });
    else connection.set(FINE);
    throw error;
  }

  async function json<T>(path: string, init?: Init): Promise<T> {
    const response = await call(path, init);
    return (await response.json().catch(() => {
      if (init?.signal?.aborted) throw init.signal.reason;
      throw new NoAnswer("The Hub's answer broke off");
    })) as T;
  }

  const post = <T>(path: string, body: unknown, headers: Record<string, string> = {}) =>
    json<T>(path, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
    });

  return {
    listRuns: (source: Source, query: { limit: number; cursor?: string | null; status?: RunStatus }) =>
      json<RunList>(`${runsOf(source)}?${search(query)}`),
    getRun: (source: Source, runId: string, signal?: AbortSignal) =>
      json<RunRecord>(`${runsOf(source)}/${runId}`, { ...(signal && { signal }) }),
    killRun: (source: Source, runId: string, order: Partial<KillOrder>) =>
      post<RunRecord>(`${runsOf(source)}/${runId}/kill`, order),
    listRecipes: () => json<RecipeList>("/api/v1/pipelines/recipes"),
    listScripts: () => json<ScriptList>("/api/v1/scripts"),
    readScript: (path: string) => json<ScriptContent>(`/api/v1/scripts/content?${search({ path })}`),
    previewLaunch: (source: Source, order: object) =>
      post<LaunchPreview>(runsOf(source), { ...order, dry_run: true }),
    launch: (source: Source, order: object, idempotencyKey: string) =>
      post<RunRecord>(runsOf(source), order, { "idempotency-key": idempotencyKey }),

    async readLog(source: Source, runId: string, { after, maxBytes, waitSeconds = 0, signal }: ReadLog) {
      const query = search({ after, max_bytes: maxBytes, wait: waitSeconds });
      const response = await call(
        `${runsOf(source)}/${runId}/logs?${query}`,
        { headers: { accept: "text/plain" }, ...(signal && { signal }) },
        waitSeconds,
      );
      const bytes = new Uint8Array(
        await response.arrayBuffer().catch((error: unknown) => {
          if (signal?.aborted) throw error;
          throw new NoAnswer("The Hub's answer broke off");
        }),
      );
      const number = (name: string) => Number(response.headers.get(name));
      const page: LogBytes = {
        bytes,
        offset: number("hub-log-offset"),
        size: number("hub-log-size"),
        more: response.headers.get("hub-log-more") === "true",
      };
      return page;
    },
  };
}

/** How the Hub is, and whether it asks for keys; public. Throws NoAnswer. */
export async function askHealth(): Promise<Health> {
  const response = await fetch("/healthz", {
    cache: "no-store",
    credentials: "omit",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  }).catch(() => undefined);
  const health = (await response?.json().catch(() => undefined)) as Health | undefined;
  if (health?.mode === undefined) throw new NoAnswer("The Hub does not answer");
  return health;
}

function runsOf(source: Source): string {
  return `/api/v1/${source}s/runs`;
}

function search(values: Record<string, string | number | null | undefined>): string {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null);
  return new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
}

async function problemOf(response: Response): Promise<ApiError> {
  const body = (await response.json().catch(() => undefined)) as Problem | undefined;
  // The Hub gives seconds, never a date.
  const retryAfter = /^\d{1,9}$/.exec(response.headers.get("retry-after") ?? "");
  if (typeof body?.code === "string") return new ApiError(response.status, body, Number(retryAfter ?? 0));
  const type = response.headers.get("content-type") ?? "no content type";
  return new ApiError(response.status, {
    code: "not_the_hub",
    detail: `Something other than the Hub answered with status ${response.status} (${type}); a proxy in between may be misconfigured`,
  });
}
