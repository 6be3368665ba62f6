import type { IncomingMessage } from "node:http";

import ipaddr from "ipaddr.js";

/** An address range; a single address is one of full length. */
export type AddressRange = [ipaddr.IPv4 | ipaddr.IPv6, number];

/** Parses an address or a CIDR range; undefined when the text is neither. */
export function parseRange(text: string): AddressRange | undefined {
  try {
    if (text.includes("/")) return ipaddr.parseCIDR(text);
    const address = ipaddr.process(text);
    return [address, address.kind() === "ipv4" ? 32 : 128];
  } catch {
    return undefined;
  }
}

/**
 * The client's address: that of the connection, or, when a trusted proxy has made the connection, the
 * last address in Forwarded (RFC 7239) or else X-Forwarded-For that is not a trusted proxy's. Addresses further left
 * are the client's own words. No other header counts.
 */
export function clientAddress(
  incoming: Pick<IncomingMessage, "socket" | "headers" | "headersDistinct">,
  trusted: readonly AddressRange[],
): string | undefined {
  const { remoteAddress: peer } = incoming.socket;
  // Most requests have neither header. To parse addresses, and to build headersDistinct, costs a twentieth of a small GET.
  if (incoming.headers.forwarded === undefined && incoming.headers["x-forwarded-for"] === undefined)
    return peer;
  if (peer === undefined || !isTrusted(peer, trusted)) return peer;
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

function isTrusted(text: string, trusted: readonly AddressRange[]): boolean {
  const address = ipaddr.process(text.split("%", 1)[0]!);
  return trusted.some((range) => address.kind() === range[0].kind() && address.match(range));
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
