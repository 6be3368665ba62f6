import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";

import { getRequestListener } from "@hono/node-server";

import type { Fetch } from "../handlers/agent-client.ts";
import { hasTwoHosts, refusal, refusalOf, sendRefusal, writeRefusal } from "./refusal.ts";

/** Headers must arrive within this time, or the connection is closed with a 408. */
const HEADERS_TIMEOUT_MS = 10_000;
/** Longer than a body may take in handlers/body.ts, which answers better. */
const REQUEST_TIMEOUT_MS = 30_000;
const MAX_HEADER_BYTES = 16_384;
/** Idle connections are kept so long; proxies in front keep theirs shorter. */
const KEEP_ALIVE_TIMEOUT_MS = 65_000;

/**
 * An HTTP server of node:http for a fetch handler, bounded in time and size.
 * What no Request can be made of is answered with a problem, too.
 */
export function httpServer(fetch: Fetch): Server {
  const listener = getRequestListener(fetch, { errorHandler: () => refusal("malformed_request", BAD_URL) });
  /** The last request of each connection and its answer. */
  const exchanges = new WeakMap<Duplex, { incoming: IncomingMessage; outgoing: ServerResponse }>();

  const refused = new WeakSet<Duplex>();

  function serve(incoming: IncomingMessage, outgoing: ServerResponse): void {
    exchanges.set(incoming.socket, { incoming, outgoing });
    const answered = hasTwoHosts(incoming)
      ? sendRefusal(outgoing, refusal("malformed_request", "header.host: is given more than once"))
      : listener(incoming, outgoing);
    answered.catch(() => outgoing.destroy());
  }

  function refuse(fault: NodeJS.ErrnoException, socket: Duplex): void {
    const { incoming, outgoing } = exchanges.get(socket) ?? {};
    const isAnswering = outgoing !== undefined && !outgoing.writableFinished;
    if (refused.has(socket)) return;
    refused.add(socket);
    const send = () => void writeRefusal(socket, refusalOf(fault));
    if (!isAnswering) send();
    // The fault is in the request behind this one: this one's own answer goes first.
    else if (incoming!.complete) outgoing.once("finish", send);
    else if (outgoing.headersSent) socket.destroy();
    else send();
  }

  return createServer({
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    maxHeaderSize: MAX_HEADER_BYTES,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    connectionsCheckingInterval: 2_000,
    // Without a Host no URL can be made: that gets our own 400, not node's empty one.
    requireHostHeader: false,
  })
    .on("request", serve)
    .on("checkExpectation", serve)
    .on("clientError", refuse)
    .on("connect", (_incoming, socket) => {
      void writeRefusal(
        socket,
        refusal("method_not_allowed", "CONNECT is not allowed here", { allow: "GET, HEAD, POST" }),
      );
    });
}

const BAD_URL = "The request line and the Host header make no valid http URL";

/** Listens on a host and port, or on a Unix socket; resolves with the port that was given, 0 for a socket. */
export function listen(
  server: Server,
  address: { host: string; port: number } | { path: string },
): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(address, () => {
      server.off("error", reject);
      const bound = server.address();
      resolve(typeof bound === "object" && bound !== null ? bound.port : 0);
    });
  });
}

/** Takes no more connections, gives the requests under way `graceMs`, and closes what is left. */
export async function close(server: Server, graceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearTimeout(timer);
}
