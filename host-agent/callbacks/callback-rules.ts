import { BlockList, isIP } from "node:net";

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
        throw invalidField("body.callback_url", "is not taken: this Hub has no hosts that it may call back");
      }
      if (match(text)) return;
      throw invalidField(
        "body.callback_url",
        "must be an https URL, without user, password and fragment, of a host and port that the operator allows for callbacks",
      );
    },
  };
}

/** Not public, or of no use as a target: RFC 6890 and its registries. */
const NOT_PUBLIC_4 = [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.88.99.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["224.0.0.0", 4],
  ["240.0.0.0", 4],
] as const;
/** Inside 2000::/3: Teredo and other protocols, documentation, and 6to4, which holds an IPv4 address. */
const NOT_PUBLIC_6 = [
  ["2001::", 23],
  ["2001:db8::", 32],
  ["2002::", 16],
  ["3fff::", 20],
] as const;

const notPublic = new BlockList();
for (const [network, prefix] of NOT_PUBLIC_4) notPublic.addSubnet(network, prefix, "ipv4");
for (const [network, prefix] of NOT_PUBLIC_6) notPublic.addSubnet(network, prefix, "ipv6");
const global6 = new BlockList();
global6.addSubnet("2000::", 3, "ipv6");

/** True for an address of the public Internet; an IPv4 address written as an IPv6 one is none. */
export function isPublicAddress(address: string): boolean {
  const family = isIP(address);
  if (family === 4) return !notPublic.check(address, "ipv4");
  return family === 6 && global6.check(address, "ipv6") && !notPublic.check(address, "ipv6");
}

function isAddress(hostname: string): boolean {
  return isIP(hostname.replaceAll(/^\[|\]$/g, "")) !== 0;
}
