// handlers/ is the stateless edge: the public API as one fetch function that runs on any platform. Belongs here: what a
// request needs from authentication to its answer, except the platform itself, which comes in through Deps. One route is one
// file in routes/. It may import host-agent/protocol/ only: no node:, no process, no adapters/.
import { type IRequestStrict, Router } from "itty-router";

import { ApiProblem } from "../host-agent/protocol/problem.ts";
import { type Digest, scopesHeader } from "./auth.ts";
import { cached } from "./cached.ts";
import type { Deps } from "./deps.ts";
import { auditRefusal, type Exchange, logExchange, runIdIn } from "./exchange.ts";
import { openapi, openapi30 } from "./openapi.ts";
import { PAGE_PATHS, servePage } from "./pages.ts";
import { problemReply } from "./problem.ts";
import { publicAgent } from "./public-agent.ts";
import { type Reply, toResponse } from "./reply.ts";
import { type RateLimit, rateLimit } from "./rate-limit.ts";
import type { Route } from "./route.ts";
import { getRun } from "./routes/get-run.ts";
import { health } from "./routes/health.ts";
import { killRun } from "./routes/kill-run.ts";
import { launchRun } from "./routes/launch-run.ts";
import { listRecipes } from "./routes/list-recipes.ts";
import { listRuns } from "./routes/list-runs.ts";
import { listScripts } from "./routes/list-scripts.ts";
import { previewRun } from "./routes/preview-run.ts";
import { readLog } from "./routes/read-log.ts";
import { readScript } from "./routes/read-script.ts";
import { type Limits, serve } from "./serve.ts";

/** The documents for programs, by path, each with what makes it of the routes. */
const DOCUMENTS = { "/openapi.json": openapi, "/openapi-3.0.json": openapi30 };

/** The whole public API. */
export const routes: readonly Route[] = [
  listRecipes,
  launchRun("pipeline"),
  previewRun("pipeline"),
  listRuns("pipeline"),
  getRun("pipeline"),
  readLog("pipeline"),
  killRun("pipeline"),
  listScripts,
  readScript,
  launchRun("script"),
  previewRun("script"),
  listRuns("script"),
  getRun("script"),
  readLog("script"),
  killRun("script"),
  health,
];

/** The API over the given dependencies: pure fetch. It answers every request and never rejects. */
export function createApp(given: Deps) {
  const deps: Deps = { ...given, agent: publicAgent(given.agent) };
  const router = Router<IRequestStrict, [Exchange]>();
  addRoutes(router, deps);
  addDocuments(router, deps);
  addRoot(router, deps);
  addPages(router, deps);
  addRefusals(router);

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
    /** `address` is the client's address, if the platform reports it. */
    async fetch(request: Request, { address }: { address?: string | undefined } = {}): Promise<Response> {
      const started = performance.now();
      const requestId = requestIdOf(request);
      const exchange: Exchange = { request, requestId, address };
      const reply = await answer(exchange);
      exchange.runId ??= runIdIn((reply.json as { run_id?: unknown } | undefined)?.run_id);
      const { principal } = exchange;
      if (principal?.dev) reply.headers = { ...reply.headers, "hub-auth": "dev" };
      else if (principal) reply.headers = { ...reply.headers, ...scopesHeader(principal) };
      auditRefusal(exchange, deps);
      logExchange(exchange, reply.status, performance.now() - started, deps);
      return toResponse(reply, { requestId, method: request.method });
    },
  };
}

/** A router that passes each handler the exchange. */
type AppRouter = ReturnType<typeof Router<IRequestStrict, [Exchange]>>;

function addRoutes(router: AppRouter, deps: Deps): void {
  const limits: Limits = {
    perKey: limitOf(deps.requestsPerMinute, deps),
    failuresPerAddress: limitOf(deps.failuresPerMinute, deps),
  };
  for (const route of routes) {
    const serveRoute = ({ params }: IRequestStrict, exchange: Exchange) => {
      exchange.route = route.path;
      exchange.runId = runIdIn(params["run_id"]);
      const { request, requestId, address } = exchange;
      return serve(route, { request, requestId, address, params }, deps, limits, (principal) => {
        exchange.principal = principal;
      });
    };
    router[route.method](route.path, serveRoute);
    if (route.method === "get") router.head(route.path, serveRoute);
  }
}

function limitOf(perMinute: number | undefined, { now }: Deps): RateLimit | undefined {
  return perMinute === undefined ? undefined : rateLimit(perMinute, now);
}

function addDocuments(router: AppRouter, { digest, publicUrl }: Deps): void {
  for (const [path, documentOf] of Object.entries(DOCUMENTS)) {
    // Made on the first request for it: it takes more memory than everything else.
    let made: Promise<{ bytes: Uint8Array; etag: string }> | undefined;
    const serveDocument = async (_request: IRequestStrict, { request }: Exchange) => {
      const { bytes, etag } = await (made ??= documentFile(documentOf(routes, publicUrl), digest));
      return cached(request.headers, bytes, {
        etag,
        "cache-control": "no-cache",
        "content-type": "application/json",
      });
    };
    router.get(path, serveDocument).head(path, serveDocument);
  }
}

async function documentFile(document: object, digest: Digest) {
  const text = JSON.stringify(document);
  return { bytes: new TextEncoder().encode(text), etag: `"${(await digest(text)).slice(0, 32)}"` };
}

/** The bare address leads people to the console: relative to it, as a proxy may have put a path in front of it. */
function addRoot(router: AppRouter, { publicUrl }: Deps): void {
  const location = publicUrl === undefined ? "console" : `${publicUrl}/console`;
  const redirect = () => ({ status: 302, headers: { location } });
  router.get("/", redirect).head("/", redirect);
}

function addPages(router: AppRouter, deps: Deps): void {
  for (const path of PAGE_PATHS) {
    const serveIt = ({ params }: IRequestStrict, exchange: Exchange) => {
      exchange.route = path;
      return servePage({ path, name: params["name"], headers: exchange.request.headers }, deps);
    };
    router.get(path, serveIt).head(path, serveIt);
  }
}

/** What no route has answered: another method of a known path, or an unknown path. */
function addRefusals(router: AppRouter): void {
  for (const path of new Set([
    ...routes.map((route) => route.path),
    ...Object.keys(DOCUMENTS),
    ...PAGE_PATHS,
  ])) {
    const methods = routes.filter((route) => route.path === path).map((route) => route.method.toUpperCase());
    const allowed = methods.length === 0 || methods.includes("GET") ? ["GET", "HEAD", ...methods] : methods;
    const allow = [...new Set(allowed)].join(", ");
    router.all(path, (request) => {
      throw new ApiProblem("method_not_allowed", `${request.method} is not allowed here. Allowed: ${allow}`, {
        headers: { allow },
      });
    });
  }
  router.all("*", () => {
    throw new ApiProblem(
      "route_not_found",
      "This route does not exist. /openapi.json lists all routes; /docs shows them in a browser",
    );
  });
}

function requestIdOf(request: Request): string {
  const given = request.headers.get("x-request-id");
  return given !== null && /^[\w.:-]{1,128}$/.test(given) ? given : crypto.randomUUID();
}

/** Anything but an ApiProblem is our own fault: the caller receives a bare 500, the log receives the cause. */
function asProblem(thrown: unknown): ApiProblem {
  if (thrown instanceof ApiProblem) return thrown;
  return new ApiProblem("internal", "Something went wrong on our side. Send the request_id to the operator", {
    cause: thrown,
  });
}
