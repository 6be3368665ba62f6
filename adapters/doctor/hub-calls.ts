import type { RunRecord } from "../../host-agent/protocol/run.ts";

const RUNS = "/api/v1/scripts/runs";
const ANSWER_TIMEOUT_MS = 5_000;
const HEALTH_TIMEOUT_MS = 2_000;

/** An answer: its status, and its JSON. */
export interface Answer {
  status: number;
  // oxlint-disable-next-line typescript/no-explicit-any -- the body of any route
  json: any;
}

/** What a launch may ask for in addition to its script. */
export interface LaunchOptions {
  /** The Idempotency-Key. */
  key?: string;
  terminal?: boolean;
}

/** One page of a log. */
export interface PageQuery {
  after: number;
  maxBytes?: number;
}

/** The calls of a Hub's public API that the trials need. `url` is asked before each call, because the server may restart. */
export function hubCalls(url: () => string, apiKey: string) {
  async function ask(
    method: "GET" | "POST",
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const response = await fetch(url() + path, {
      method,
      headers: { authorization: `Bearer ${apiKey}`, "content-type": "application/json", ...headers },
      signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    return { status: response.status, json: await response.json() };
  }

  return {
    launch: (path: string, { key, ...options }: LaunchOptions = {}): Promise<Answer> =>
      ask("POST", RUNS, { path, ...options }, key === undefined ? {} : { "idempotency-key": key }),
    record: async (runId: string): Promise<RunRecord> => (await ask("GET", `${RUNS}/${runId}`)).json,
    kill: (runId: string, order: object): Promise<Answer> => ask("POST", `${RUNS}/${runId}/kill`, order),
    page: async (runId: string, { after, maxBytes = 4_096 }: PageQuery) =>
      (await ask("GET", `${RUNS}/${runId}/logs?after=${after}&max_bytes=${maxBytes}`)).json,
  };
}

/** True when a Hub answers at this origin. */
export async function isHub(origin: string): Promise<boolean> {
  try {
    const response = await fetch(`${origin}/healthz`, {
      signal: AbortSignal.timeout(HEALTH_TIMEOUT_MS),
      headers: { connection: "close" },
    });
    const health = (await response.json()) as { mode?: unknown };
    return typeof health.mode === "string";
  } catch {
    return false;
  }
}
