import { isSameReach } from "../host-agent/protocol/reach.ts";
import { ApiProblem, type FieldError, invalidFields } from "../host-agent/protocol/problem.ts";
import { authorize, type Principal } from "./auth.ts";
import { readJsonBody } from "./body.ts";
import type { Deps } from "./deps.ts";
import { addressName, type RateLimit } from "./rate-limit.ts";
import type { Reply } from "./reply.ts";
import type { Route } from "./route.ts";
import { parse, queryObject } from "./validate.ts";

/** A request for which a route was found. */
export interface Incoming {
  request: Request;
  requestId: string;
  /** The client's address; undefined when the platform does not report it. */
  address: string | undefined;
  params: Record<string, string>;
}

/** What counts requests, for as long as the app lives. */
export interface Limits {
  perKey: RateLimit | undefined;
  failuresPerAddress: RateLimit | undefined;
}

/** A key that was good stays good for this long: a change of the keys may take as long to be noticed. */
const ADMITTED_FOR_MS = 1_000;
const PUBLIC: Principal = { name: "public", dev: false };

/**
 * The pipeline of every request: authentication, scope, rate limit, validation,
 * then the route's own part. `onPrincipal` receives the caller, for the log.
 */
export async function serve(
  route: Route,
  { request, requestId, address, params }: Incoming,
  deps: Deps,
  limits: Limits,
  onPrincipal: (principal: Principal) => void,
): Promise<Reply> {
  const begunAt = deps.now();
  const isHeld = () => Math.abs(deps.now() - begunAt) >= ADMITTED_FOR_MS;
  let principal = await authenticate(route, request, address, deps, limits);
  onPrincipal(principal);
  const readmit = async () => {
    if (!isHeld()) return true;
    const { reach } = principal;
    principal = await authenticate(route, request, address, deps, limits);
    return isSameReach(reach, principal.reach);
  };
  if (route.scope) limitKey(principal, limits);

  const errors: FieldError[] = [];
  const { request: schemas, bodyOptional = false } = route;
  const input = {
    // Getters: it may be another one after a while. And the platform makes the signal on the first access, at a cost, and few routes need it.
    get principal() {
      return principal;
    },
    requestId,
    headers: request.headers,
    readmit,
    get signal() {
      return request.signal;
    },
    params: parse("path", schemas.params, params, errors),
    query: parse("query", schemas.query, queryObject(request.url, errors), errors),
    body: schemas.body && parse("body", schemas.body, await readJsonBody(request, bodyOptional), errors),
  };
  if (errors.length > 0) throw invalidFields(errors);
  // A body that arrives slowly leaves time in which the key can be revoked, or limited to less.
  await readmit();
  const reply = await route.handle(input, inReach(deps, principal));
  // An answer that was held is shown only to a key that is still good. What a POST did stays done, and is reported.
  if (route.method !== "get" || (await readmit())) return reply;
  // What is in it may be out of reach now: it is made again for what is in reach, without waiting.
  return route.handle(input, { ...inReach(deps, principal), stopping: AbortSignal.abort() });
}

/** The agent as this caller may use it: no route has another one. */
function inReach(deps: Deps, { reach }: Principal): Deps {
  return reach === undefined ? deps : { ...deps, agent: deps.agent.within(reach) };
}

async function authenticate(
  { scope }: Route,
  request: Request,
  address: string | undefined,
  deps: Deps,
  limits: Limits,
): Promise<Principal> {
  if (!scope) return PUBLIC;
  try {
    return await authorize(request, scope, { ring: await deps.keys(), digest: deps.digest, now: deps.now() });
  } catch (error) {
    throw refusalFor(error, address, limits);
  }
}

/**
 * The refusal of a request that could not be authenticated; `rate_limited` when
 * its address has sent too many of them. A good key is accepted from any address:
 * otherwise one client behind a NAT could lock out the others.
 */
function refusalFor(error: unknown, address: string | undefined, { failuresPerAddress }: Limits): unknown {
  const isUnauthenticated = error instanceof ApiProblem && error.code === "unauthenticated";
  if (!isUnauthenticated || address === undefined) return error;
  const retryAfterSeconds = failuresPerAddress?.take(addressName(address)) ?? 0;
  if (retryAfterSeconds === 0) return error;
  return new ApiProblem(
    "rate_limited",
    "Too many requests without a valid API key from this address. Check the key, then try again",
    { retryAfterSeconds },
  );
}

function limitKey({ name }: Principal, { perKey }: Limits): void {
  const retryAfterSeconds = perKey?.take(name) ?? 0;
  if (retryAfterSeconds === 0) return;
  throw new ApiProblem("rate_limited", `Too many requests with the API key ${name}. Retry later`, {
    retryAfterSeconds,
  });
}
