import { Router } from "itty-router";
import * as z from "zod";

import type { AgentAnswer, AgentCall, AgentTransport } from "./protocol/call.ts";
import { isExhausted } from "./exhaustion.ts";
import { ApiProblem, type FieldError } from "./protocol/problem.ts";
import {
  AgentHealth,
  DEFAULT_LIST_LIMIT,
  DEFAULT_LOG_PAGE_BYTES,
  HostPath,
  KillOrder,
  Label,
  LaunchOrder,
  LOG_HEADERS,
  MAX_LIST_LIMIT,
  MAX_LOG_PAGE_BYTES,
  MAX_LOG_WAIT_SECONDS,
  MAX_RUN_WAIT_SECONDS,
  PreviewOrder,
  RequestId,
  RunId,
  RunStatus,
  Source,
} from "./protocol/schemas.ts";
import { publicRecipe, type Recipes } from "./recipes.ts";
import type { AuditedRuns } from "./audit-runs.ts";
import type { Scripts } from "./scripts.ts";

export type Fetch = (request: Request) => Promise<Response>;

export interface ServerDeps {
  runs: AuditedRuns;
  recipes: Recipes;
  scripts: Scripts;
  /** What is wrong with the audit log; undefined when all is well. */
  auditProblem(): string | undefined;
}

const number = z
  .string()
  .regex(/^\d{1,16}$/)
  .transform(Number)
  .pipe(z.int());

const ListQuery = z.object({
  source: Source,
  status: RunStatus.optional(),
  label: Label.optional(),
  limit: number.pipe(z.int().min(1).max(MAX_LIST_LIMIT)).default(DEFAULT_LIST_LIMIT),
  cursor: z
    .string()
    .regex(/^\d{1,15}$/)
    .optional(),
});
const RunQuery = z.object({
  source: Source,
  wait: number.pipe(z.int().max(MAX_RUN_WAIT_SECONDS)).default(0),
});
const LogQuery = z.object({
  source: Source,
  after: number.default(0),
  max_bytes: number.pipe(z.int().min(1).max(MAX_LOG_PAGE_BYTES)).default(DEFAULT_LOG_PAGE_BYTES),
  wait: number.pipe(z.int().max(MAX_LOG_WAIT_SECONDS)).default(0),
});
const KillBody = z.strictObject({
  source: Source,
  order: KillOrder,
  key_name: z.string().min(1).max(200),
  request_id: RequestId.optional(),
});
const ScriptsQuery = z.object({ path: HostPath.optional() });
const ContentQuery = z.object({ path: HostPath });

/** A call on its way to its route. */
interface AgentRequest {
  method: string;
  url: string;
  params: Record<string, string>;
  query: Record<string, string | string[] | undefined>;
  body?: unknown;
  signal?: AbortSignal | undefined;
}

/** The agent's API in both of its forms: calls as data, and the same over HTTP. Neither ever rejects. */
export interface AgentServer {
  answer: AgentTransport;
  fetch: Fetch;
}

/** The agent's API over the given parts, one line a route. */
export function createServer({ runs, recipes, scripts, auditProblem }: ServerDeps): AgentServer {
  const router = Router<AgentRequest, [], AgentAnswer>();
  router
    .get("/health", async () => ok(await health(runs, recipes, auditProblem())))
    .get("/recipes", async () => {
      const catalogue = await recipes.current();
      return ok({ recipes: [...catalogue.recipes.values()].map(publicRecipe) });
    })
    .get("/scripts", async (request) => ok(await scripts.list(query(ScriptsQuery, request).path)))
    .get("/scripts/content", async (request) => ok(await scripts.read(query(ContentQuery, request).path)))
    .post("/runs", async (request) => ok(await runs.launch(body(LaunchOrder, request))))
    .post("/runs/preview", async (request) => ok(await runs.preview(body(PreviewOrder, request))))
    .get("/runs", async (request) => ok(await runs.list(query(ListQuery, request))))
    .get("/runs/:id", async (request) => {
      const { source, wait } = query(RunQuery, request);
      return ok(await runs.get(source, runId(request), { waitSeconds: wait, signal: request.signal }));
    })
    .get("/runs/:id/log", (request) => readLog(runs, request))
    .post("/runs/:id/kill", async (request) => {
      const { source, order, key_name, request_id } = body(KillBody, request);
      return ok(await runs.kill(source, runId(request), order, key_name, request_id));
    })
    .all("*", () => {
      throw new ApiProblem("route_not_found", "The host-agent has no such route; is it of another version?");
    });

  async function answer({
    method,
    path,
    body: json,
    signal,
  }: Omit<AgentCall, "method"> & { method: string }) {
    try {
      return await router.fetch({ method, url: ORIGIN + path, body: json, signal });
    } catch (thrown) {
      return problemAnswer(thrown);
    }
  }

  return {
    answer,
    async fetch(request) {
      const { pathname, search } = new URL(request.url);
      const call = {
        method: request.method,
        path: pathname.replace(BASE, "") + search,
        signal: request.signal,
      };
      try {
        return toResponse(await answer({ ...call, body: await readJson(request) }));
      } catch (thrown) {
        return toResponse(problemAnswer(thrown));
      }
    },
  };
}

const BASE = /^\/agent\/v1(?=\/)/;
/** The router wants whole URLs; of this one only what stands behind it counts. */
const ORIGIN = "http://host-agent";

function ok(json: unknown): AgentAnswer {
  return { status: 200, json };
}

async function readJson(request: Request): Promise<unknown> {
  if (request.method === "GET" || request.method === "HEAD") return undefined;
  try {
    return JSON.parse(await request.text());
  } catch {
    throw new ApiProblem("malformed_request", "body: is not JSON");
  }
}

function toResponse({ status, headers, json, bytes }: AgentAnswer): Response {
  if (!bytes) return Response.json(json, { status });
  return new Response(bytes as Uint8Array<ArrayBuffer>, { status, headers: { ...headers } });
}

async function health(
  runs: AuditedRuns,
  recipes: Recipes,
  auditProblem: string | undefined,
): Promise<AgentHealth> {
  const isBroken = (await recipes.problem()) !== undefined;
  const problems = [
    ...(isBroken ? ["the recipes file is missing or malformed; the last good one stays"] : []),
    ...(auditProblem === undefined ? [] : [auditProblem]),
  ];
  return {
    status: problems.length === 0 ? "ok" : "degraded",
    problems,
    running: runs.countAlive(),
  };
}

async function readLog(runs: AuditedRuns, request: AgentRequest): Promise<AgentAnswer> {
  const { source, after, max_bytes, wait } = query(LogQuery, request);
  const page = await runs.readLog(source, runId(request), {
    after,
    maxBytes: max_bytes,
    waitSeconds: wait,
    signal: request.signal,
  });
  return {
    status: 200,
    headers: {
      "content-type": "application/octet-stream",
      [LOG_HEADERS.offset]: String(page.offset),
      [LOG_HEADERS.size]: String(page.size),
      [LOG_HEADERS.more]: String(page.offset < page.size),
    },
    bytes: page.bytes,
  };
}

function runId(request: AgentRequest): string {
  return parse("path", RunId, request.params["id"]);
}

function query<S extends z.ZodType>(schema: S, request: AgentRequest): z.output<S> {
  return parse("query", schema, request.query);
}

function body<S extends z.ZodType>(schema: S, request: AgentRequest): z.output<S> {
  return parse("body", schema, request.body);
}

function parse<S extends z.ZodType>(place: string, schema: S, value: unknown): z.output<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const errors: FieldError[] = parsed.error.issues.map((issue) => ({
    path: [place, ...issue.path].join("."),
    message: issue.message,
  }));
  throw new ApiProblem("invalid_request", errors.map((e) => `${e.path}: ${e.message}`).join("; "), {
    errors,
  });
}

/** The result codes of SQLite (sqlite.org/rescode.html) that say "not now": BUSY, READONLY, IOERR, FULL. */
const SQLITE_NOT_NOW = new Set([5, 8, 10, 13]);

/** The one place where a throw becomes an answer. What is no ApiProblem is our own fault, and told to the log only. */
function problemAnswer(thrown: unknown): AgentAnswer {
  const problem = asProblem(thrown);
  if (problem.extras.cause !== undefined || problem.code === "internal") {
    console.error(
      JSON.stringify({
        level: "error",
        event: problem.code,
        detail: problem.message,
        error: describe(thrown),
      }),
    );
  }
  const { errors, size, retryAfterSeconds } = problem.extras;
  return {
    status: problem.status,
    json: { code: problem.code, detail: problem.message, errors, size, retry_after: retryAfterSeconds },
  };
}

function asProblem(thrown: unknown): ApiProblem {
  if (thrown instanceof ApiProblem) return thrown;
  const errcode = (thrown as { errcode?: number }).errcode;
  if (errcode !== undefined && SQLITE_NOT_NOW.has(errcode & 0xff)) {
    return new ApiProblem("host_unavailable", "The host cannot write its state now; try again", {
      retryAfterSeconds: 10,
      cause: thrown,
    });
  }
  if (isExhausted(thrown)) {
    const { code } = thrown as NodeJS.ErrnoException;
    return new ApiProblem("host_unavailable", `The host is short of something now (${code}); try again`, {
      retryAfterSeconds: 10,
      cause: thrown,
    });
  }
  return new ApiProblem("internal", "Something went wrong on the host", { cause: thrown });
}

function describe(thrown: unknown): string {
  const error = thrown instanceof ApiProblem ? thrown.extras.cause : thrown;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
