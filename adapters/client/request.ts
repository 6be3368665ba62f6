import { failureOf } from "./answers.ts";
import { HubError } from "./hub-error.ts";

export interface Call {
  query?: Record<string, string | number | null | undefined>;
  headers?: Record<string, string>;
  body?: unknown;
  /** For how long the server may hold the request, in seconds; the time for the answer itself comes on top. */
  waitSeconds?: number | undefined;
  /** How long the answer may take, in seconds, without the wait. */
  timeoutSeconds?: number | undefined;
  signal?: AbortSignal | undefined;
  /** Which statuses are read; without it those of 2xx. */
  reads?(status: number): boolean;
}

export interface HubOptions {
  /** The Hub's address without a slash at its end. */
  url: string;
  key?: string | undefined;
  /** Part of every request, such as a cache mode. */
  init?: RequestInit;
  headers?: Record<string, string>;
  /** Called with each answer other than a failure. */
  onAnswer?(response: Response): void;
  /** Called with each failure, before it is thrown; what it returns is thrown. */
  onFailure?(error: HubError): Error;
}

/** Sends a request and reads its answer with `read`. */
export type Send = <T>(
  method: string,
  path: string,
  call: Call,
  read: (response: Response) => Promise<T>,
) => Promise<T>;

const TIMEOUT_SECONDS = 30;

/**
 * Requests to one Hub: address, key, JSON body, timeout and failures. Rejects
 * with HubError, or with the reason of an aborted `signal`.
 */
export function hubRequests({ url, key, init, headers, onAnswer, onFailure }: HubOptions): Send {
  return async (method, path, call, read) => {
    const { query = {}, body, waitSeconds = 0, timeoutSeconds = TIMEOUT_SECONDS, signal } = call;
    const timeout = AbortSignal.timeout((waitSeconds + timeoutSeconds) * 1000);
    try {
      const response = await fetch(url + path + searchOf(query), {
        ...init,
        method,
        signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
        headers: {
          accept: "application/json",
          ...headers,
          ...(key !== undefined && { authorization: `Bearer ${key}` }),
          ...(body !== undefined && { "content-type": "application/json" }),
          ...call.headers,
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      });
      if (!(call.reads?.(response.status) ?? response.ok)) throw await failureOf(response);
      const value = await read(response);
      onAnswer?.(response);
      return value;
    } catch (error) {
      if (signal?.aborted && !(error instanceof HubError)) throw error;
      const failure = error instanceof HubError ? error : noAnswer(error);
      throw onFailure?.(failure) ?? failure;
    }
  };
}

function noAnswer(cause: unknown): HubError {
  return new HubError("The Hub does not answer", { kind: "no-answer", transient: true, cause });
}

function searchOf(query: NonNullable<Call["query"]>): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null) search.set(name, String(value));
  }
  return search.size === 0 ? "" : `?${search.toString()}`;
}
