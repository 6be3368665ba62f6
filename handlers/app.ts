import { type IRequestStrict, Router } from "itty-router";

import { ApiProblem } from "../host-agent/protocol/problem.ts";
import type { Principal } from "./auth.ts";
import { openapi } from "./openapi.ts";
import { PAGE_PATHS, servePage } from "./pages.ts";
import { problemReply } from "./problem.ts";
import { type Reply, toResponse } from "./reply.ts";
import { type RateLimit, rateLimit } from "./rate-limit.ts";
import { type Deps, type Limits, type Route, serve } from "./route.ts";
import { getRun } from "./routes/get-run.ts";
import { health } from "./routes/health.ts";
import { killRun } from "./routes/kill-run.ts";
import { launchPipeline } from "./routes/launch-pipeline.ts";
import { launchScript } from "./routes/launch-script.ts";
import { listRecipes } from "./routes/list-recipes.ts";
import { listRuns } from "./routes/list-runs.ts";
import { listScripts } from "./routes/list-scripts.ts";
import { readLog } from "./routes/read-log.ts";
import { readScript } from "./routes/read-script.ts";

/** The whole public API. */
export const routes: readonly Route[] = [
  listRecipes,
  launchPipeline,
  listRuns("pipeline"),
  getRun("pipeline"),
  readLog("pipeline"),
  killRun("pipeline"),
  listScripts,
  readScript,
  launchScript,
  listRuns("script"),
  getRun("script"),
  readLog("script"),
  killRun("script"),
  health,
];

/** The API over the given dependencies: pure fetch. It answers every request and never rejects. */
export function createApp(deps: Deps) {
  const router = Router<IRequestStrict, [Exchange]>();
  const limits: Limits = {
    perKey: limitOf(deps.requestsPerMinute, deps),
    failuresPerAddress: limitOf(deps.failuresPerMinute, deps),
  };
  for (const route of routes) {
    const serveRoute = (request: IRequestStrict, exchange: Exchange) => {
      exchange.route = route.path;
      const incoming = {
        request: exchange.request,
        requestId: exchange.requestId,
        address: exchange.address,
        params: request.params,
      };
      return serve(route, incoming, deps, limits, (principal) => (exchange.principal = principal));
    };
    router[route.method](route.path, serveRoute);
    if (route.method === "get") router.head(route.path, serveRoute);
  }
  // Made when it is first asked for: it takes more memory than all the rest.
  let document: object | undefined;
  const serveDocument = () => ({ status: 200, json: (document ??= openapi(routes)) });
  router.get("/openapi.json", serveDocument).head("/openapi.json", serveDocument);
  for (const path of PAGE_PATHS) {
    const serveIt = ({ params }: IRequestStrict, exchange: Exchange) => {
      exchange.route = path;
      return servePage({ path, name: params["name"], headers: exchange.request.headers }, deps);
    };
    router.get(path, serveIt).head(path, serveIt);
  }
  for (const path of new Set([...routes.map((route) => route.path), "/openapi.json", ...PAGE_PATHS])) {
    const methods = routes.filter((route) => route.path === path).map((route) => route.method.toUpperCase());
    const allowed = methods.length === 0 || methods.includes("GET") ? ["GET", "HEAD", ...methods] : methods;
    const allow = [...new Set(allowed)].join(", ");
    router.all(path, (request) => {
      throw new ApiProblem("method_not_allowed", `${request.method} is not allowed here, but ${allow}`, {
        headers: { allow },
      });
    });
  }
  router.all("*", () => {
    throw new ApiProblem(
      "route_not_found",
      "There is no such route; /openapi.json lists them, and /docs shows them in a browser",
    );
  });

  async function answer(exchange: Exchange): Promise<Reply> {
    try {
      return (await router.fetch(exchange.request, exchange)) as Reply;
    } catch (thrown) {
      const problem = asProblem(thrown);
      exchange.problem = problem;
      const { pathname } = new URL(exchange.request.url);
      return problemReply(problem, { path: pathname, requestId: exchange.requestId });
    }
  }

  return {
    /** `address` is where the request comes from, if the platform tells. */
    async fetch(request: Request, { address }: { address?: string | undefined } = {}): Promise<Response> {
      const started = performance.now();
      const requestId = requestIdOf(request);
      const exchange: Exchange = { request, requestId, address };
      const reply = await answer(exchange);
      if (exchange.principal?.dev) reply.headers = { ...reply.headers, "hub-auth": "dev" };
      auditRefusal(deps, exchange);
      logRequest(deps, exchange, reply.status, performance.now() - started);
      return toResponse(reply, { requestId, method: request.method });
    },
  };
}

function limitOf(perMinute: number | undefined, { now }: Deps): RateLimit | undefined {
  return perMinute === undefined ? undefined : rateLimit(perMinute, now);
}

/** One request and what has become known of it. */
interface Exchange {
  request: Request;
  requestId: string;
  address: string | undefined;
  route?: string;
  principal?: Principal;
  problem?: ApiProblem;
}

function requestIdOf(request: Request): string {
  const given = request.headers.get("x-request-id");
  return given !== null && /^[\w.:-]{1,128}$/.test(given) ? given : crypto.randomUUID();
}

/** Whatever is no ApiProblem is our own fault: the caller sees a bare 500, the log sees the rest. */
function asProblem(thrown: unknown): ApiProblem {
  if (thrown instanceof ApiProblem) return thrown;
  return new ApiProblem(
    "internal",
    "Something went wrong on our side; quote the request_id to the operator",
    {
      cause: thrown,
    },
  );
}

/** The agent records itself what it refuses to launch. */
const REFUSED_BY_AGENT: ReadonlySet<string> = new Set(["path_forbidden", "too_many_runs"]);

function auditRefusal(
  deps: Deps,
  { request, route, principal, problem, requestId, address }: Exchange,
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

function logRequest(deps: Deps, exchange: Exchange, status: number, ms: number): void {
  const { request, route, principal, problem, requestId } = exchange;
  const cause = problem?.extras.cause;
  const entry: Record<string, unknown> = {
    level: status >= 500 ? "error" : "info",
    event: "request",
    method: request.method,
    route: route ?? null,
    status,
    ms: Math.round(ms * 10) / 10,
    key_name: principal?.name ?? null,
    request_id: requestId,
  };
  if (principal?.dev) entry["auth"] = "dev";
  if (problem) entry["code"] = problem.code;
  if (cause !== undefined) {
    entry["cause"] = cause instanceof Error ? (cause.stack ?? cause.message) : JSON.stringify(cause);
  }
  deps.log(entry);
}
