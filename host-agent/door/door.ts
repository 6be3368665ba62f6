import type { Log } from "../system/log-line.ts";
import type { NonceMemory } from "./nonce-memory.ts";
import { readAtMost } from "../protocol/read-bytes.ts";
import {
  checkBody,
  Refusal,
  type RefusalReason,
  REFUSALS,
  type TrustedKeys,
  verifyHead,
} from "../protocol/signature.ts";
import type { FetchHandler } from "../system/http-listener.ts";

/** Far above any request of the edge, whose bodies are at most 64 KiB. */
const MAX_BODY_BYTES = 1_048_576;
/** This many refusals a second are logged one by one; the others are counted, or anybody could fill the disk. */
const LOGGED_PER_SECOND = 200;
const MAX_LOGGED_LENGTH = 200;

export interface DoorOptions {
  /** Answers GET /livez without a signature: only where nobody but this machine connects. */
  answersLivez: boolean;
  /** What admitted requests are passed to. */
  agent: FetchHandler;
  /** The agent's name: the tag that a signature must bear. */
  name: string;
  trusted(): Promise<TrustedKeys>;
  nonces: NonceMemory;
  log: Log;
  now(): number;
}

/**
 * Passes a request to the agent when it is signed by a trusted key, for
 * this agent, just now, for the first time, body included. All others get the
 * same answer; only the log has the reason.
 */
export function createDoor({
  answersLivez,
  agent,
  name,
  trusted,
  nonces,
  log,
  now,
}: DoorOptions): FetchHandler {
  const logRefusal = refusalLog(log, now);

  async function admit(request: Request): Promise<Request> {
    if (claimsBodyOfGet(request)) throw new Refusal("missing_digest");
    const claims = await verifyHead(request, { trusted: await trusted(), agentName: name, now: now() });
    // Only now, or strangers could fill the memory; and before the body, or a replay could make us read it.
    takeNonce(nonces, claims.nonce, claims.created);
    if (request.method === "GET" || request.method === "HEAD") {
      await checkBody(claims, new Uint8Array());
      return request;
    }
    const body = await readAtMost(request, MAX_BODY_BYTES).catch((cause: unknown) => {
      throw new Refusal("body_cut_off", { cause });
    });
    if (body === undefined) throw new Refusal("body_too_large");
    await checkBody(claims, body);
    return new Request(request.url, { method: request.method, headers: request.headers, body });
  }

  return async (request) => {
    if (answersLivez && isLivez(request)) return new Response("ok\n");
    let admitted: Request;
    try {
      admitted = await admit(request);
    } catch (error) {
      // A refusal, or an error of ours: the request is not admitted either way.
      logRefusal(request, error);
      return dullAnswer();
    }
    return agent(admitted);
  };
}

/** The question of a service manager whether this process answers at all. The answer depends on nothing, so it reveals nothing. */
function isLivez({ method, url }: Request): boolean {
  return (method === "GET" || method === "HEAD") && new URL(url).pathname === "/livez";
}

function takeNonce(nonces: NonceMemory, nonce: string, created: number): void {
  let taken: ReturnType<NonceMemory["take"]>;
  try {
    taken = nonces.take(nonce, created);
  } catch (cause) {
    throw new Refusal("state_unwritable", { cause });
  }
  if (taken === "seen") throw new Refusal("replayed");
  if (taken === "before") throw new Refusal("before_start");
}

/** A Request with GET has no body to check, whatever was sent. */
function claimsBodyOfGet({ method, headers }: Request): boolean {
  if (method !== "GET" && method !== "HEAD") return false;
  return headers.has("transfer-encoding") || Number(headers.get("content-length") ?? 0) !== 0;
}

function dullAnswer(): Response {
  return Response.json(
    { code: "unauthenticated", detail: "Refused" },
    { status: 401, headers: { "www-authenticate": "Signature", connection: "close" } },
  );
}

function refusalLog(log: Log, now: () => number) {
  let second = 0;
  let count = 0;
  return ({ method, url }: Request, error: unknown): void => {
    const current = Math.floor(now() / 1000);
    if (current !== second) {
      if (count > LOGGED_PER_SECOND) {
        log({ level: "warn", event: "refused_more", count: count - LOGGED_PER_SECOND });
      }
      second = current;
      count = 0;
    }
    if (++count > LOGGED_PER_SECOND) return;
    const reason: RefusalReason | "internal" = error instanceof Refusal ? error.reason : "internal";
    const cause = error instanceof Refusal ? error.cause : error;
    log({
      level: reason === "internal" ? "error" : "warn",
      event: "refused",
      reason,
      detail: reason === "internal" ? "an error inside the agent" : REFUSALS[reason],
      method,
      url: url.slice(0, MAX_LOGGED_LENGTH),
      ...(cause instanceof Error && { cause: cause.message.slice(0, MAX_LOGGED_LENGTH) }),
    });
  };
}
