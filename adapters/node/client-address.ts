import type { IncomingMessage } from "node:http";

import ipaddr from "ipaddr.js";

import { isFromUnixSocket } from "../../host-agent/system/http-listener.ts";

/** An address range; a single address is one of full length. */
export type AddressRange = [ipaddr.IPv4 | ipaddr.IPv6, number];

/** A proxy whose word about a client's address is believed: one with an address, or one that connects through the Unix socket. */
export type TrustedProxy = AddressRange | "unix";

/** Parses an address, a CIDR range or the word `unix`; undefined when the text is none of them. */
export function parseTrustedProxy(text: string): TrustedProxy | undefined {
  return text === "unix" ? text : parseRange(text);
}

function parseRange(text: string): AddressRange | undefined {
  try {
    if (text.includes("/")) return ipaddr.parseCIDR(text);
    const address = ipaddr.process(text);
    return [address, address.kind() === "ipv4" ? 32 : 128];
  } catch {
    return undefined;
  }
}

/**
 * The client's address: that of the connection (undefined for a Unix socket), or, when a trusted proxy has made the connection, the
 * last address in Forwarded (RFC 7239) or else X-Forwarded-For that is not a trusted proxy's. Addresses further left
 * are the client's own words. No other header counts.
 */
export function clientAddress(
  incoming: Pick<IncomingMessage, "socket" | "headers" | "headersDistinct">,
  trusted: readonly TrustedProxy[],
): string | undefined {
  const { remoteAddress: peer } = incoming.socket;
  // Most requests have neither header. To parse addresses, and to build headersDistinct, costs a twentieth of a small GET.
  if (incoming.headers.forwarded === undefined && incoming.headers["x-forwarded-for"] === undefined)
    return peer;
  if (!isTrustedPeer(incoming.socket, trusted)) return peer;
  const { forwarded, "x-forwarded-for": listed } = incoming.headersDistinct;
  const hops = forwarded ? forwardedHops(forwarded.join(",")) : (listed ?? []).join(",").split(",");
  let address = peer;
  for (const hop of hops.toReversed()) {
    const before = hopAddress(hop);
    // Beyond a hop without an address, a proxy's words and the client's look the same.
    if (before === undefined) return address;
    address = before;
    if (!isTrusted(address, trusted)) return address;
  }
  return address;
}

/** A TCP connection that was reset has no address either, so a missing one does not mean the Unix socket. */
function isTrustedPeer(socket: IncomingMessage["socket"], trusted: readonly TrustedProxy[]): boolean {
  const { remoteAddress: peer } = socket;
  if (peer !== undefined) return isTrusted(peer, trusted);
  return trusted.includes("unix") && isFromUnixSocket(socket);
}

function isTrusted(text: string, trusted: readonly TrustedProxy[]): boolean {
  const address = ipaddr.process(text.split("%", 1)[0]!);
  return trusted.some(
    (proxy) => proxy !== "unix" && address.kind() === proxy[0].kind() && address.match(proxy),
  );
}

/** The `for` of each element of a Forwarded header. Commas and semicolons inside quotes do not end it. */
function forwardedHops(header: string): string[] {
  const elements = header.match(/(?:"(?:[^"\\]|\\.)*"|[^,])+/g) ?? [];
  return elements.map((element) => /(?:^|;)\s*for=("[^"]*"|[^;\s]*)/i.exec(element)?.[1] ?? "");
}

/** The address of a hop, without quotes, brackets and port; undefined for `unknown`, a hidden name, or no address. */
function hopAddress(hop: string): string | undefined {
  const plain = hop.trim().replaceAll('"', "");
  const bare =
    /^\[(?<inner>[^\]]*)\](?::\d+)?$/.exec(plain)?.groups!["inner"] ?? plain.replace(/^([\d.]+):\d+$/, "$1");
  return ipaddr.isValid(bare) ? ipaddr.process(bare).toString() : undefined;
}
