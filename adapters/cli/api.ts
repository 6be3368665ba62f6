import { type HubClient, hubClient } from "../client/hub-client.ts";
import { HubError } from "../client/hub-error.ts";
import { type Env, type Host, isLoopback } from "./hosts.ts";
import { networkFailure } from "./network-error.ts";
import { useProxy } from "./proxy.ts";

/** The public API of one Hub, and the Hub itself. */
export interface Api extends HubClient {
  host: Host;
}

const HOW_TO_GET_A_HUB = "Start a Hub with `npm start`, or name another one with HUB_URL or `hub login`";

/**
 * The API of a Hub. Every failure is a HubError whose message can be shown; an abort by a `signal`, and what is not a
 * failure of the network, rejects as it is.
 */
export function hubApi(host: Host, env: Env): Api {
  const proxy = isLoopback(new URL(host.url).hostname) ? undefined : useProxy(env, host.url);
  const client = hubClient({
    url: host.url,
    key: host.key,
    // A redirected POST would become a GET, so the user is asked for the right address.
    init: { redirect: "manual" },
    headers: { "user-agent": "hub-cli/1.0" },
    onFailure: (error) =>
      error.kind === "no-answer" ? unreachable(error, host, proxy) : refused(error, host),
  });
  return { ...client, host };
}

function unreachable(error: HubError, host: Host, proxy: string | undefined): Error {
  const { cause } = error.facts;
  const failure = networkFailure(cause);
  if (!failure) return cause instanceof Error ? cause : error;
  const { reason, transient, isUnsent } = failure;
  const advice = host.isGuess ? HOW_TO_GET_A_HUB : undefined;
  const where = proxy === undefined ? host.url : `${host.url} (${proxy})`;
  return new HubError(`cannot reach ${where}: ${reason}`, { ...error.facts, transient, isUnsent, advice });
}

function refused(error: HubError, host: Host): HubError {
  return new HubError(sentence(error, host), error.facts);
}

function sentence({ status, code, message, facts }: HubError, { url, key }: Host): string {
  if (status === 401) {
    return key === undefined
      ? `${url} needs an API key: set HUB_KEY, or store a key with \`hub login\``
      : `${url} does not accept this API key: it is wrong, expired or revoked`;
  }
  if (status >= 300 && status < 400) {
    return `${url} redirects to ${facts.headers?.get("location") ?? "another address"}: use that address as HUB_URL`;
  }
  if (code === "route_not_found" || code === "method_not_allowed" || (code === undefined && status === 404)) {
    return `${url} has no such route: the server is not a Hub, or an older version`;
  }
  if (code === undefined) return message;
  const requestId = facts.headers?.get("x-request-id");
  return `${message} (${code}${requestId && status >= 500 ? `, request ${requestId}` : ""})`;
}
