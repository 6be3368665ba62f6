import { isIP } from "node:net";

import ipaddr from "ipaddr.js";

import { invalidField } from "../protocol/problem.ts";

/** One host of HUB_CALLBACK_HOSTS. */
export interface CallbackHost {
  protocol: "https:" | "http:";
  /** As URL has it: lower case, punycode, IPv6 in brackets. */
  hostname: string;
  port: string;
  /** Its name may resolve to an address that is not public. */
  mayBePrivate: boolean;
}

/** An allowed URL, and the entry of the list that allows it. */
export interface AllowedUrl {
  url: URL;
  host: CallbackHost;
}

export type CallbackRules = ReturnType<typeof callbackRules>;

const ENTRY =
  /^(?:(?<scheme>https?):\/\/)?(?<host>\[[\da-f:.]+\]|[^\s:/?#@[\]\\+*%]+)(?::(?<port>\d{1,5}))?(?<flag>\+private)?$/i;

/** Reads one entry of HUB_CALLBACK_HOSTS: `[http(s)://]host[:port][+private]`. Undefined for anything else. */
export function parseCallbackHost(entry: string): CallbackHost | undefined {
  const { scheme = "https", host, port, flag } = ENTRY.exec(entry)?.groups ?? {};
  const url =
    host === undefined ? null : URL.parse(`${scheme}://${host}${port === undefined ? "" : `:${port}`}`);
  if (url === null || url.hostname === "") return undefined;
  return {
    protocol: url.protocol as CallbackHost["protocol"],
    hostname: url.hostname,
    port: url.port,
    // The operator listed exactly this address; `localhost` is the machine itself.
    mayBePrivate: flag !== undefined || isAddress(url.hostname) || url.hostname === "localhost",
  };
}

/** Allows the URLs of the listed hosts, by the listed scheme and port, and no others. */
export function callbackRules(hosts: readonly CallbackHost[]) {
  /** The URL with its listed host; undefined when no listed host matches. */
  function match(text: string): AllowedUrl | undefined {
    const url = URL.parse(text);
    // The parsed URL is what is requested: nothing parses the text again.
    if (url === null || url.username !== "" || url.password !== "" || url.hash !== "") return undefined;
    const host = hosts.find(
      ({ protocol, hostname, port }) =>
        url.protocol === protocol && url.hostname === hostname && url.port === port,
    );
    return host && { url, host };
  }

  return {
    match,
    /** Throws `invalid_request` for a URL that is not allowed; the message does not reveal the allowed hosts. */
    check(text: string): void {
      if (hosts.length === 0) {
        throw invalidField("callback_url", "is not accepted: the operator has allowed no callback hosts");
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
