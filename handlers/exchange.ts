import { RUN_ID } from "../host-agent/protocol/limits.ts";
import type { ApiProblem } from "../host-agent/protocol/problem.ts";
import type { Principal } from "./auth.ts";
import type { Deps } from "./deps.ts";

/** One request, and what the router and the pipeline have found out about it. */
export interface Exchange {
  request: Request;
  requestId: string;
  address: string | undefined;
  route?: string;
  /** The run that the path names, or that a launch has answered with. */
  runId?: string | undefined;
  principal?: Principal;
  problem?: ApiProblem;
}

/** Refusals that the agent records itself. */
const REFUSED_BY_AGENT: ReadonlySet<string> = new Set(["path_forbidden", "too_many_runs"]);

/** The id of a run, if this is one: a path can hold anything. */
export function runIdIn(value: unknown): string | undefined {
  return typeof value === "string" && RUN_ID.test(value) ? value : undefined;
}

/** Records the exchange in the audit log if its request was refused. */
export function auditRefusal(
  { request, route, principal, problem, requestId, address }: Exchange,
  deps: Deps,
): void {
  if (!problem || !([401, 403, 429].includes(problem.status) || problem.code === "keys_unavailable")) return;
  if (request.method === "POST" && REFUSED_BY_AGENT.has(problem.code)) return;
  deps.audit?.({
    event: "refused",
    key_name: principal?.name ?? null,
    request_id: requestId,
    address: address ?? null,
    method: request.method,
    route: route ?? null,
    outcome: problem.code,
  });
}

/** Writes the exchange's line of the request log. `ms` is how long the answer took. */
export function logExchange(exchange: Exchange, status: number, ms: number, deps: Deps): void {
  const { request, route, runId, principal, problem, requestId, address } = exchange;
  const cause = problem?.extras.cause;
  const entry: Record<string, unknown> = {
    level: status >= 500 ? "error" : "info",
    event: "request",
    method: request.method,
    route: route ?? null,
    status,
    ms: Math.round(ms * 10) / 10,
    key_name: principal?.name ?? null,
    address: address ?? null,
    request_id: requestId,
  };
  if (runId !== undefined) entry["run_id"] = runId;
  if (principal?.dev) entry["auth"] = "dev";
  if (problem) entry["code"] = problem.code;
  if (cause !== undefined) {
    entry["cause"] = cause instanceof Error ? (cause.stack ?? cause.message) : JSON.stringify(cause);
  }
  deps.log(entry);
}
