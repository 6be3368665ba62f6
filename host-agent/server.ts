import { Router, type IRequestStrict } from "itty-router";
import * as z from "zod";

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
  RunId,
  RunStatus,
  Source,
} from "./protocol/schemas.ts";
import { publicRecipe, type Recipes } from "./recipes.ts";
import type { Runs } from "./runs.ts";
import type { Scripts } from "./scripts.ts";

export type Fetch = (request: Request) => Promise<Response>;

export interface ServerDeps {
  runs: Runs;
  recipes: Recipes;
  scripts: Scripts;
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
const KillBody = z.strictObject({ source: Source, order: KillOrder, key_name: z.string().min(1).max(200) });
const ScriptsQuery = z.object({ path: HostPath.optional() });
const ContentQuery = z.object({ path: HostPath });

/** The agent's API over the given parts: pure fetch, one line a route. */
export function createServer({ runs, recipes, scripts }: ServerDeps): Fetch {
  const router = Router<IRequestStrict>({ base: "/agent/v1", catch: toResponse });
  router
    .get("/health", async () => Response.json(await health(runs, recipes)))
    .get("/recipes", async () => {
      const catalogue = await recipes.current();
      return Response.json({ recipes: [...catalogue.recipes.values()].map(publicRecipe) });
    })
    .get("/scripts", async (request) => Response.json(await scripts.list(query(ScriptsQuery, request).path)))
    .get("/scripts/content", async (request) =>
      Response.json(await scripts.read(query(ContentQuery, request).path)),
    )
    .post("/runs", async (request) => Response.json(await runs.launch(await body(LaunchOrder, request))))
    .post("/runs/preview", async (request) =>
      Response.json(await runs.preview(await body(PreviewOrder, request))),
    )
    .get("/runs", async (request) => Response.json(await runs.list(query(ListQuery, request))))
    .get("/runs/:id", async (request) => {
      const { source, wait } = query(RunQuery, request);
      const options = { waitSeconds: wait, signal: request.signal };
      return Response.json(await runs.get(source, runId(request), options));
    })
    .get("/runs/:id/log", (request) => readLog(runs, request))
    .post("/runs/:id/kill", async (request) => {
      const { source, order, key_name } = await body(KillBody, request);
      return Response.json(await runs.kill(source, runId(request), order, key_name));
    })
    .all("*", () => {
      throw new ApiProblem("route_not_found", "The host-agent has no such route; is it of another version?");
    });
  return (request) => router.fetch(request) as Promise<Response>;
}

async function health(runs: Runs, recipes: Recipes): Promise<AgentHealth> {
  const problem = await recipes.problem();
  return {
    status: problem === undefined ? "ok" : "degraded",
    problems:
      problem === undefined ? [] : ["the recipes file is missing or malformed; the last good one stays"],
    running: runs.countAlive(),
  };
}

async function readLog(runs: Runs, request: IRequestStrict): Promise<Response> {
  const { source, after, max_bytes, wait } = query(LogQuery, request);
  const page = await runs.readLog(source, runId(request), {
    after,
    maxBytes: max_bytes,
    waitSeconds: wait,
    signal: request.signal,
  });
  return new Response(page.bytes as Uint8Array<ArrayBuffer>, {
    headers: {
      "content-type": "application/octet-stream",
      [LOG_HEADERS.offset]: String(page.offset),
      [LOG_HEADERS.size]: String(page.size),
      [LOG_HEADERS.more]: String(page.offset < page.size),
    },
  });
}

function runId(request: IRequestStrict): string {
  return parse("path", RunId, request.params["id"]);
}

function query<S extends z.ZodType>(schema: S, request: IRequestStrict): z.output<S> {
  return parse("query", schema, request.query);
}

async function body<S extends z.ZodType>(schema: S, request: IRequestStrict): Promise<z.output<S>> {
  const text = await request.text();
  try {
    return parse("body", schema, JSON.parse(text));
  } catch (error) {
    if (error instanceof SyntaxError) throw new ApiProblem("malformed_request", "body: is not JSON");
    throw error;
  }
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
function toResponse(thrown: unknown): Response {
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
  return Response.json(
    { code: problem.code, detail: problem.message, errors, size, retry_after: retryAfterSeconds },
    { status: problem.status },
  );
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
  return new ApiProblem("internal", "Something went wrong on the host", { cause: thrown });
}

function describe(thrown: unknown): string {
  const error = thrown instanceof ApiProblem ? thrown.extras.cause : thrown;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
