import { ApiProblem } from "../host-agent/protocol/problem.ts";
import { isLoopback } from "./loopback.ts";

/** Which requests a Hub without API keys serves. */
export interface DevAudience {
  /** Only this machine: the Hub listens on loopback, and a proxy on this machine would let others in. */
  localOnly: boolean;
  /** Names of this Hub in addition to loopback names and, unless `localOnly`, addresses; in lower case. */
  hosts: readonly string[];
}

/**
 * Throws `local_only` for a request that a page of another site may have sent from a browser that
 * can reach this Hub. The page can post to it, and also read once the page's own name resolves to the Hub's address
 * (DNS rebinding). Such requests have that name as Host, have the page's Origin, or say `cross-site` (Fetch Metadata,
 * www.w3.org/TR/fetch-metadata).
 */
export function refuseForeign(request: Request, audience: DevAudience | undefined): void {
  const fault = foreignness(request, audience);
  if (fault === undefined) return;
  throw new ApiProblem("local_only", fault);
}

function foreignness({ url, headers }: Request, audience: DevAudience | undefined): string | undefined {
  const { hostname, host } = new URL(url);
  if (audience && !isOwnName(hostname, audience)) {
    return audience.localOnly
      ? `header.host: must be localhost or a loopback address. ${HOW_LOCAL}`
      : `header.host: must be an address, or a name of this Hub. Create a key, or add the name to HUB_HOSTS`;
  }
  if (headers.get("sec-fetch-site") === "cross-site") return `header.sec-fetch-site: ${OTHER_SITE}`;
  const origin = headers.get("origin");
  if (origin !== null && !isOwnOrigin(URL.parse(origin), host, audience))
    return `header.origin: ${OTHER_SITE}`;
  if (!audience?.localOnly) return undefined;
  const forwarded = FORWARDED.find((name) => headers.has(name));
  return forwarded && `header.${forwarded}: the request comes through a proxy. ${HOW_LOCAL}`;
}

const HOW_LOCAL = "A Hub without API keys serves only its own machine. Create a key, or set HUB_ALLOW_OPEN=1";
const OTHER_SITE =
  "the request comes from a page of another site. A Hub without API keys does not serve it. Create a key";

/** An address cannot be made to mean another machine; a name can, by anyone who owns it. */
function isOwnName(hostname: string, { localOnly, hosts }: DevAudience): boolean {
  if (isLoopback(hostname) || hosts.includes(hostname)) return true;
  return !localOnly && /^(?:\[.*\]|[\d.]+)$/.test(hostname);
}

/** A page of this Hub itself, or, where only this machine is served, of another server on it. */
function isOwnOrigin(origin: URL | null, host: string, audience: DevAudience | undefined): boolean {
  if (origin === null) return false;
  return origin.host === host || (audience?.localOnly === true && isLoopback(origin.hostname));
}

/** Headers that proxies add (RFC 9110, 7.6.3; RFC 7239; and earlier ones): behind a proxy every client seems to be on loopback. */
const FORWARDED = [
  "forwarded",
  "via",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-real-ip",
  "cf-connecting-ip",
];
