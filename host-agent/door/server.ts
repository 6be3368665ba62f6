import { Router } from "itty-router";
import * as z from "zod";

import type { FetchHandler } from "../system/http-listener.ts";
import type { Log } from "../system/log-line.ts";
import { failureOf } from "./failure.ts";
import type { Agent, LogPage } from "../protocol/agent.ts";
import { ApiProblem, type FieldError, invalidFields } from "../protocol/problem.ts";
import { decodeReach } from "../protocol/reach.ts";
import { Label, LaunchOrder, PreviewOrder } from "../protocol/launch.ts";
import { MAX_LIST_LIMIT, MAX_LOG_PAGE_BYTES } from "../protocol/limits.ts";
import { DEFAULT_LOG_PAGE_BYTES, LOG_HEADERS, MAX_LOG_WAIT_SECONDS } from "../protocol/log.ts";
import {
  DEFAULT_LIST_LIMIT,
  KillOrder,
  MAX_RUN_WAIT_SECONDS,
  RequestId,
  RunId,
  RunStatus,
  Source,
} from "../protocol/run.ts";
import { HostPath } from "../protocol/spec.ts";

const number = z
  .string()
  .regex(/^\d{1,16}$/)
  .transform(Number)
  .pipe(z.int());

const KeyName = z.string().min(1).max(200);

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
  key_name: KeyName.optional(),
});
const LogQuery = z.object({
  source: Source,
  after: number.default(0),
  max_bytes: number.pipe(z.int().min(1).max(MAX_LOG_PAGE_BYTES)).default(DEFAULT_LOG_PAGE_BYTES),
  wait: number.pipe(z.int().max(MAX_LOG_WAIT_SECONDS)).default(0),
  key_name: KeyName.optional(),
});
const KillBody = z.strictObject({
  source: Source,
  order: KillOrder,
  key_name: KeyName,
  request_id: RequestId.optional(),
});
const ScriptsQuery = z.object({ path: HostPath.optional() });
const ContentQuery = z.object({ path: HostPath });

const BASE = "/agent/v1";
const WITHIN = /^([^:]+:\/\/[^/]+)\/agent\/v1\/within\/([\w-]+)(\/.*)$/;

/** A request, as its route sees it. */
interface AgentRequest {
  method: string;
  url: string;
  params: Record<string, string>;
  query: Record<string, string | string[] | undefined>;
  body: unknown;
  signal: AbortSignal;
}

/** The agent over HTTP, one line a route: JSON, and logs as bytes. It checks every input and never rejects. */
export function createServer(all: Agent, log: Log): FetchHandler {
  const router = Router<AgentRequest, [Agent], Response>({ base: BASE });
  router
    .get("/health", async (_request, agent) => ok(await agent.health()))
    .get("/recipes", async (_request, agent) => ok(await agent.listRecipes()))
    .get("/scripts", async (request, agent) => ok(await agent.listScripts(query(ScriptsQuery, request).path)))
    .get("/scripts/content", async (request, agent) =>
      ok(await agent.readScript(query(ContentQuery, request).path)),
    )
    .post("/runs", async (request, agent) =>
      ok(await agent.launch(body(LaunchOrder, request), request.signal)),
    )
    .post("/runs/preview", async (request, agent) =>
      ok(await agent.previewLaunch(body(PreviewOrder, request))),
    )
    .get("/runs", async (request, agent) => ok(await agent.listRuns(query(ListQuery, request))))
    .get("/runs/:id", async (request, agent) => {
      const { source, wait: waitSeconds, key_name: keyName } = query(RunQuery, request);
      const { signal } = request;
      return ok(await agent.getRun(source, runId(request), { waitSeconds, keyName, signal }));
    })
    .get("/runs/:id/log", async (request, agent) => {
      const { source, after, max_bytes, wait, key_name: keyName } = query(LogQuery, request);
      const { signal } = request;
      const asked = { after, maxBytes: max_bytes, waitSeconds: wait, keyName, signal };
      return logPage(await agent.readLog(source, runId(request), asked));
    })
    .post("/runs/:id/kill", async (request, agent) => {
      const { source, order, key_name, request_id } = body(KillBody, request);
      const who = { keyName: key_name, requestId: request_id };
      return ok(await agent.killRun(source, runId(request), order, who));
    })
    .all("*", () => {
      throw new ApiProblem(
        "route_not_found",
        "The host-agent does not have this route. Is it another version?",
      );
    });

  return async (request) => {
    try {
      const { method, signal } = request;
      const { url, agent } = withinReach(request.url, all);
      return await router.fetch({ method, url, signal, body: await readJson(request) }, agent);
    } catch (thrown) {
      return problemAnswer(thrown, log);
    }
  };
}

/**
 * The agent that a call is for, and its URL without the reach. The reach of a caller is a part of the path, and so of what is
 * signed: an agent of an earlier version has no such route and refuses the call, and cannot take it for one without a reach.
 */
function withinReach(url: string, all: Agent): { url: string; agent: Agent } {
  const [, origin, text, path] = WITHIN.exec(url) ?? [];
  if (text === undefined) return { url, agent: all };
  const reach = decodeReach(text);
  if (reach === undefined) {
    throw new ApiProblem(
      "route_not_found",
      "The host-agent does not understand this reach. Is it another version?",
    );
  }
  return { url: `${origin}${BASE}${path}`, agent: all.within(reach) };
}

function ok(json: unknown): Response {
  return Response.json(json);
}

function logPage({ bytes, offset, size, more }: LogPage): Response {
  return new Response(bytes as Uint8Array<ArrayBuffer>, {
    headers: {
      "content-type": "application/octet-stream",
      [LOG_HEADERS.offset]: String(offset),
      [LOG_HEADERS.size]: String(size),
      [LOG_HEADERS.more]: String(more),
    },
  });
}

async function readJson(request: Request): Promise<unknown> {
  if (request.method === "GET" || request.method === "HEAD") return undefined;
  try {
    return JSON.parse(await request.text());
  } catch {
    throw new ApiProblem("malformed_request", "body: is not JSON");
  }
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
  throw invalidFields(errors);
}

/** The one place where an error becomes an answer. An internal error, and one with a cause, is logged. */
function problemAnswer(thrown: unknown, log: Log): Response {
  const { code, message, status, extras } = failureOf(thrown);
  const { errors, size, retryAfterSeconds, cause } = extras;
  if (cause !== undefined || code === "internal") {
    const error = cause instanceof Error ? (cause.stack ?? cause.message) : String(cause);
    log({ level: "error", event: code, detail: message, error });
  }
  return Response.json({ code, detail: message, errors, size, retry_after: retryAfterSeconds }, { status });
}
