import { ApiProblem } from "../host-agent/protocol/problem.ts";
import type { Reach } from "../host-agent/protocol/reach.ts";
import { type DevAudience, refuseForeign } from "./same-site.ts";

/** What a key can be allowed to do. */
export const SCOPES = ["pipelines:read", "pipelines:write", "scripts:read", "scripts:write"] as const;
export type Scope = (typeof SCOPES)[number];
/** Grants every scope. */
export const ALL_SCOPES = "*";

/** What is kept in memory about a key: never the key itself. */
export interface KeyEntry {
  name: string;
  scopes: readonly string[];
  /** Epoch milliseconds; undefined for a key that does not expire. */
  expiresAt: number | undefined;
  /** Undefined for a key that reaches everything. */
  reach?: Reach | undefined;
}

/**
 * The keys in force. `enforced` finds a key by the SHA-256, in hex, of the presented
 * one: the time that it takes to compare digests reveals nothing about the key.
 * `dev` serves its `audience`, but never a page of another site; without an audience
 * the platform decides which hosts are served. `unavailable` serves no one.
 */
export type KeyRing = (
  | { mode: "dev"; audience?: DevAudience }
  | { mode: "enforced"; keys: ReadonlyMap<string, KeyEntry> }
  | { mode: "unavailable" }
) & {
  /** What is wrong with the keys, as a sentence without paths, for /healthz. */
  problem?: string;
  /** What an operator should know about the keys, a sentence each. */
  warnings?: readonly string[];
};

/** The caller. */
export interface Principal {
  name: string;
  dev: boolean;
  /** What its key may do; undefined without one. */
  scopes?: readonly string[];
  /** What its key may do it with; undefined for everything, and in dev mode. */
  reach?: Reach;
}

/** SHA-256 in hex. */
export type Digest = (text: string) => string | Promise<string>;

const MAX_KEY_LENGTH = 512;

/**
 * Authenticates a request and checks that its key has `scope`. Throws
 * `unauthenticated` and `insufficient_scope` with the challenge of RFC 6750,
 * `keys_unavailable` and `local_only`.
 */
export async function authorize(
  request: Request,
  scope: Scope,
  { ring, digest, now }: { ring: KeyRing; digest: Digest; now: number },
): Promise<Principal> {
  if (ring.mode === "dev") {
    refuseForeign(request, ring.audience);
    return { name: "dev", dev: true };
  }
  if (ring.mode === "unavailable") {
    throw new ApiProblem(
      "keys_unavailable",
      "The API keys cannot be read, so every request is refused. The operator finds the cause in the log",
      { retryAfterSeconds: 10 },
    );
  }
  const entry = ring.keys.get(await digest(presentedKey(request)));
  if (!entry) throw unauthenticated("The API key is unknown. Check it, or ask the operator", INVALID);
  if (entry.expiresAt !== undefined && entry.expiresAt <= now) {
    const when = new Date(entry.expiresAt).toISOString();
    throw unauthenticated(
      `The API key ${entry.name} expired at ${when}. Ask the operator for a new one`,
      INVALID,
    );
  }
  if (!entry.scopes.includes(scope) && !entry.scopes.includes(ALL_SCOPES)) {
    throw new ApiProblem(
      "insufficient_scope",
      `The API key ${entry.name} does not have the scope ${scope}. Ask the operator for a key that has it`,
      {
        headers: {
          ...scopesHeader(entry),
          "www-authenticate": `Bearer realm="hub", error="insufficient_scope", scope="${scope}"`,
        },
      },
    );
  }
  return { name: entry.name, dev: false, scopes: entry.scopes, ...(entry.reach && { reach: entry.reach }) };
}

/** Reports to a client what its key may do, so that it offers nothing else. */
export function scopesHeader({ scopes }: { scopes?: readonly string[] }): Record<string, string> {
  return scopes === undefined ? {} : { "hub-scopes": scopes.join(" ") };
}

const INVALID = `, error="invalid_token"`;

function presentedKey(request: Request): string {
  const header = request.headers.get("authorization");
  if (header === null) {
    throw unauthenticated("Send your API key in the header `Authorization: Bearer <key>`", "");
  }
  const key = /^Bearer +([\x21-\x7e]+) *$/i.exec(header)?.[1];
  if (key === undefined || key.length > MAX_KEY_LENGTH) {
    throw unauthenticated("The Authorization header must be `Bearer <key>`", `, error="invalid_request"`);
  }
  return key;
}

function unauthenticated(detail: string, challenge: string): ApiProblem {
  return new ApiProblem("unauthenticated", detail, {
    headers: { "www-authenticate": `Bearer realm="hub"${challenge}` },
  });
}
