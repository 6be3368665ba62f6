/** One call of the agent's API as data, whatever carries it. */
export interface AgentCall {
  method: "GET" | "POST";
  /** Below /agent/v1, with its query. */
  path: string;
  /** JSON; undefined for a call without a body. */
  body?: unknown;
  /** How long the agent may take beyond the usual, in milliseconds. */
  extraMs?: number;
  /** Aborts when nobody waits for the answer any more. */
  signal?: AbortSignal | undefined;
}

/** What the agent answers: JSON, or the bytes of a log. */
export interface AgentAnswer {
  status: number;
  /** By their lower-case names. */
  headers?: Readonly<Record<string, string>>;
  json?: unknown;
  bytes?: Uint8Array;
}

/** Carries a call to the agent and its answer back: a function call, or HTTP. */
export type AgentTransport = (call: AgentCall) => Promise<AgentAnswer>;
