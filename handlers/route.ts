import type * as z from "zod";

import type { Agent } from "../host-agent/protocol/agent.ts";
import { clipName } from "../host-agent/protocol/clip.ts";
import { ApiProblem, type FieldError, type ProblemCode } from "../host-agent/protocol/problem.ts";
import { authorize, type Digest, type KeyRing, type Principal, type Scope } from "./auth.ts";
import { readJsonBody } from "./body.ts";
import { fieldMessage } from "./field-message.ts";
import type { KV } from "./kv.ts";
import type { Assets } from "./pages.ts";
import { addressName, type RateLimit } from "./rate-limit.ts";
import type { Reply } from "./reply.ts";

/** What the handlers need of the world. */
export interface Deps {
  agent: Agent;
  kv: KV;
  keys(): KeyRing | Promise<KeyRing>;
  /** SHA-256 in hex. */
  digest: Digest;
  /** Each key may make so many requests a minute; undefined for no limit. */
  requestsPerMinute?: number | undefined;
  /** So many requests a minute from one address may lack a valid key; undefined for no limit. */
  failuresPerMinute?: number | undefined;
  /** Records a request that was refused, or a launch that was answered without the agent; left out where nobody keeps such a record. */
  audit?(event: RefusedRequest | ReplayedLaunch): void;
  /** One structured line: requests, and what went wrong. */
  log(entry: Record<string, unknown>): void;
  now(): number;
  /** The built pages for people; without them the paths of the pages say that they are not built. */
  assets?: Assets | undefined;
  /** Aborts when the server is about to stop: what is held is to be answered at once. */
  stopping?: AbortSignal;
}

/** A request that was not let through, for the audit log. */
export interface RefusedRequest {
  event: "refused";
  key_name: string | null;
  request_id: string;
  address: string | null;
  method: string;
  route: string | null;
  /** The problem's code. */
  outcome: ProblemCode;
}

/** A launch that the KV remembered, for the audit log: the agent has not seen it. */
export interface ReplayedLaunch {
  event: "replay";
  outcome: "replayed" | "replayed_stale";
  source: string;
  key_name: string;
  request_id: string | null;
  run_id: string;
  /** SHA-256 of the record's `cmd`. */
  argv_sha256: string;
}

/** What counts requests, for as long as the app lives. */
export interface Limits {
  perKey: RateLimit | undefined;
  failuresPerAddress: RateLimit | undefined;
}

export interface Schemas {
  params?: z.ZodType;
  query?: z.ZodType;
  body?: z.ZodType;
}

/** What a handler is given: the parsed request, and who asks. */
export type Input<S extends Schemas> = { [K in keyof S]: z.output<NonNullable<S[K]>> } & Context;

export interface Context {
  principal: Principal;
  requestId: string;
  headers: Headers;
  /** Aborts when the client hangs up. */
  signal: AbortSignal;
}

export interface ResponseHeader {
  name: string;
  description: string;
  schema: z.ZodType;
}

/** A route is data plus a function: the pipeline and the OpenAPI document read the same object. */
export interface Route<S extends Schemas = Schemas> {
  method: "get" | "post";
  path: string;
  operationId: string;
  tag: string;
  summary: string;
  description: string;
  /** Left out for a public route. */
  scope?: Scope;
  request: S;
  /** True when a request without a body means an empty object. */
  bodyOptional?: boolean;
  /** True for a launch, which takes an Idempotency-Key. */
  idempotent?: boolean;
  /** True for a route that takes `Prefer: wait=N`. */
  waits?: boolean;
  response: {
    status: number;
    description: string;
    body: z.ZodType;
    headers?: ResponseHeader[];
    /** Further statuses that have the same body. */
    alsoWith?: Record<number, string>;
    /** Further successes, each with a body of its own. */
    others?: Record<number, { description: string; body: z.ZodType }>;
    /** Further content types with their schemas. */
    alternatives?: Record<string, z.ZodType>;
  };
  /** The problems of this route beside those that every route can have. */
  problems: ProblemCode[];
  handle(input: Input<S>, deps: Deps): Promise<Reply>;
}

/** Keeps the types of a route's schemas for its handler. */
export function defineRoute<S extends Schemas>(route: Route<S>): Route {
  return route;
}

/** A request that found its route. */
export interface Incoming {
  request: Request;
  requestId: string;
  /** Where it comes from; undefined when the platform does not tell. */
  address: string | undefined;
  params: Record<string, string>;
}

/**
 * The life of every request: who, may they, what do they ask, then the route's
 * own part. `onPrincipal` learns who it is, for the log.
 */
export async function serve(
  route: Route,
  { request, requestId, address, params }: Incoming,
  deps: Deps,
  limits: Limits,
  onPrincipal: (principal: Principal) => void,
): Promise<Reply> {
  const { scope } = route;
  const admit = async (): Promise<Principal> =>
    scope
      ? authorize(request, scope, { ring: await deps.keys(), digest: deps.digest, now: deps.now() }).catch(
          (error: unknown) => refuseOften(error, address, limits),
        )
      : PUBLIC;
  const begunAt = deps.now();
  const isHeld = () => Math.abs(deps.now() - begunAt) >= ADMITTED_FOR_MS;
  const principal = await admit();
  onPrincipal(principal);
  if (route.scope) limitKey(principal, limits);

  const errors: FieldError[] = [];
  const input = {
    principal,
    requestId,
    headers: request.headers,
    // Asked for by few, and dear: the platform makes it when it is asked for.
    get signal() {
      return request.signal;
    },
    params: parse("path", route.request.params, params, errors),
    query: parse("query", route.request.query, queryObject(request.url, errors), errors),
    body: route.request.body
      ? parse("body", route.request.body, await readJsonBody(request, route.bodyOptional === true), errors)
      : undefined,
  };
  if (errors.length > 0) throw invalid(errors);
  // The body may have taken its time, and its key been revoked meanwhile.
  if (isHeld()) await admit();
  const reply = await route.handle(input, deps);
  // What was held is read with the key as it is now; what was done with a good key is done.
  if (route.method === "get" && isHeld()) await admit();
  return reply;
}

/** A key that was good counts for so long, as long as a change of the keys may take to be known. */
const ADMITTED_FOR_MS = 1_000;

/**
 * The refusal of a request that could not be authenticated: from an address with
 * too many of them another one. A good key is looked up first and let in from any
 * address, or one client behind a NAT could lock out the others.
 */
function refuseOften(error: unknown, address: string | undefined, { failuresPerAddress }: Limits): never {
  if (!(error instanceof ApiProblem) || error.code !== "unauthenticated" || address === undefined)
    throw error;
  const retryAfterSeconds = failuresPerAddress?.take(addressName(address)) ?? 0;
  if (retryAfterSeconds === 0) throw error;
  throw new ApiProblem(
    "rate_limited",
    "Too many requests without a valid API key come from this address; check the key before you try again",
    { retryAfterSeconds },
  );
}

function limitKey({ name }: Principal, { perKey }: Limits): void {
  const retryAfterSeconds = perKey?.take(name) ?? 0;
  if (retryAfterSeconds === 0) return;
  throw new ApiProblem("rate_limited", `The API key ${name} makes too many requests; try again later`, {
    retryAfterSeconds,
  });
}

const PUBLIC: Principal = { name: "public", dev: false };

function queryObject(url: string, errors: FieldError[]): Record<string, string> {
  const query: Record<string, string> = Object.create(null);
  if (!url.includes("?")) return query;
  for (const [name, value] of new URL(url).searchParams) {
    if (name in query) errors.push({ path: `query.${clipName(name)}`, message: "is given more than once" });
    query[name] = value;
  }
  return query;
}

function parse(place: string, schema: z.ZodType | undefined, value: unknown, errors: FieldError[]): unknown {
  if (!schema) {
    if (place === "query") refuseNames(Object.keys(value as object), errors);
    return undefined;
  }
  const parsed = schema.safeParse(value, { error: fieldMessage });
  if (parsed.success) return parsed.data;
  for (const issue of parsed.error.issues) {
    if (issue.code === "unrecognized_keys") {
      for (const key of issue.keys) {
        errors.push({ path: [place, ...issue.path, clipName(key)].join("."), message: "is not known here" });
      }
    } else {
      errors.push({ path: [place, ...issue.path].join("."), message: issue.message });
    }
  }
  return undefined;
}

function refuseNames(names: string[], errors: FieldError[]): void {
  for (const name of names) errors.push({ path: `query.${clipName(name)}`, message: "is not known here" });
}

const MAX_ERRORS_SHOWN = 20;

function invalid(errors: FieldError[]): ApiProblem {
  const shown = errors.slice(0, MAX_ERRORS_SHOWN);
  const detail = shown.map(({ path, message }) => `${path}: ${message}`).join("; ");
  return new ApiProblem("invalid_request", detail, { errors: shown });
}
