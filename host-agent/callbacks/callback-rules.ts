import { isIP } from "node:net";

import ipaddr from "ipaddr.js";

import { invalidField } from "../protocol/problem.ts";

/** One host that may be called back, as the operator listed it. */
export interface CallbackHost {
  protocol: "https:" | "http:";
  /** As URL has it: lower case, punycode, IPv6 in brackets. */
  hostname: string;
  port: string;
  /** Its name may resolve to an address that is not public. */
  mayBePrivate: boolean;
}

/** A URL that may be called back, and the entry of the list that says so. */
export interface AllowedUrl {
  url: URL;
  host: CallbackHost;
}

export type CallbackRules = ReturnType<typeof callbackRules>;

const ENTRY =
  /^(?:(?<scheme>https?):\/\/)?(?<host>\[[\da-f:.]+\]|[^\s:/?#@[\]\\+*%]+)(?::(?<port>\d{1,5}))?(?<flag>\+private)?$/i;

/** Reads one entry of HUB_CALLBACK_HOSTS: `[http(s)://]host[:port][+private]`. Undefined when it is none. */
export function parseCallbackHost(entry: string): CallbackHost | undefined {
  const { scheme = "https", host, port, flag } = ENTRY.exec(entry)?.groups ?? {};
  const url =
    host === undefined ? null : URL.parse(`${scheme}://${host}${port === undefined ? "" : `:${port}`}`);
  if (url === null || url.hostname === "") return undefined;
  return {
    protocol: url.protocol as CallbackHost["protocol"],
    hostname: url.hostname,
    port: url.port,
    // An address stands for itself, and this name for the machine itself.
    mayBePrivate: flag !== undefined || isAddress(url.hostname) || url.hostname === "localhost",
  };
}

/** Which URLs may be called back: those of the listed hosts, by the listed scheme and port, and no others. */
export function callbackRules(hosts: readonly CallbackHost[]) {
  /** The listed host of a URL; undefined when there is none. */
  function match(text: string): AllowedUrl | undefined {
    const url = URL.parse(text);
    // The very URL is parsed once more for the request, so there is no second reading of it.
    if (url === null || url.username !== "" || url.password !== "" || url.hash !== "") return undefined;
    const host = hosts.find(
      ({ protocol, hostname, port }) =>
        url.protocol === protocol && url.hostname === hostname && url.port === port,
    );
    return host && { url, host };
  }

  return {
    match,
    /** Throws `invalid_request` for a URL that may not be called back; says nothing of which may. */
    check(text: string): void {
      if (hosts.length === 0) {
        throw invalidField("callback_url", "is not taken: this Hub has no hosts that it may call back");
      }
      if (match(text)) return;
      throw invalidField(
        "callback_url",
        "must be an https URL, without user, password and fragment, of a host and port that the operator allows for callbacks",
      );
    },
  };
}

/** All that IANA has assigned of IPv6's global unicast space; what is outside it is reserved. */
const GLOBAL_UNICAST_6 = ipaddr.IPv6.parseCIDR("2000::/3");

/**
 * True for an address of the public Internet: in no range of the IANA
 * special-purpose registries (RFC 6890) and no multicast address. An IPv4 address written as an IPv6 one is not public.
 */
export function isPublicAddress(address: string): boolean {
  // ipaddr.js also reads what getaddrinfo(3) never returns, such as `0177.1`, and throws for some zones of IPv6.
  if (isIP(address) === 0 || !ipaddr.isValid(address)) return false;
  const parsed = ipaddr.parse(address);
  if (parsed instanceof ipaddr.IPv6 && !parsed.match(GLOBAL_UNICAST_6)) return false;
  return parsed.range() === "unicast";
}

function isAddress(hostname: string): boolean {
  return isIP(hostname.replaceAll(/^\[|\]$/g, "")) !== 0;
}
