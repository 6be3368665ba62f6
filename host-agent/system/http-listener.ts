import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from "node:http";
import type { Socket } from "node:net";

import { getRequestListener } from "@hono/node-server";

/** A server as a function (Fetch standard): it answers every request and never rejects. */
export type FetchHandler = (request: Request) => Promise<Response>;

/** What one HTTP server puts up with. */
export interface HttpBounds {
  /** Headers must arrive within this time, or the connection is closed with a 408. */
  headersTimeoutMs: number;
  /** The same for a whole request; the answer may take any time. */
  requestTimeoutMs: number;
  /** Idle connections are kept so long. */
  keepAliveTimeoutMs: number;
  maxHeaderBytes: number;
  /** Further connections are dropped; unbounded when left out. */
  maxConnections?: number;
}

/** An address to listen on. */
export type ListenAddress = { host: string; port: number } | { path: string };

const IDLE_SWEEP_INTERVAL_MS = 50;
/** So many requests of one connection may wait for their answers: a client that pipelines more is not reading them. */
const MAX_UNANSWERED = 16;
/** A connection on which nothing moves is closed after so long: longer than any request is held. */
const STALLED_AFTER_MS = 120_000;

/** A server of node:http that is bounded in time and size, and has no listeners yet. */
export function boundedServer(bounds: HttpBounds, options: ServerOptions = {}): Server {
  const server = createServer({
    headersTimeout: bounds.headersTimeoutMs,
    requestTimeout: bounds.requestTimeoutMs,
    maxHeaderSize: bounds.maxHeaderBytes,
    keepAliveTimeout: bounds.keepAliveTimeoutMs,
    connectionsCheckingInterval: 2_000,
    ...options,
  });
  if (bounds.maxConnections !== undefined) server.maxConnections = bounds.maxConnections;
  server.timeout = STALLED_AFTER_MS;
  return server;
}

/**
 * The same listener, for connections that read their answers: node:http hands over
 * all the requests of one packet at once, and an answer that nobody reads
 * stays in memory. A connection with more than MAX_UNANSWERED is cut off.
 */
export function ofReaders(
  listener: (incoming: IncomingMessage, outgoing: ServerResponse) => void,
): (incoming: IncomingMessage, outgoing: ServerResponse) => void {
  const unanswered = new WeakMap<Socket, number>();
  return (incoming, outgoing) => {
    const { socket } = incoming;
    const count = (unanswered.get(socket) ?? 0) + 1;
    unanswered.set(socket, count);
    outgoing.once("close", () => unanswered.set(socket, unanswered.get(socket)! - 1));
    if (count > MAX_UNANSWERED) socket.destroy();
    // Also what the packet still holds of a connection that was cut off comes here.
    if (!socket.destroyed) listener(incoming, outgoing);
  };
}

/** Such a server for a fetch handler. `malformed` answers what cannot even be made a Request. */
export function httpServer(fetch: FetchHandler, bounds: HttpBounds, malformed: () => Response): Server {
  const listener = getRequestListener(fetch, { errorHandler: malformed });
  return boundedServer(bounds).on(
    "request",
    ofReaders((incoming, outgoing) => {
      listener(incoming, outgoing).catch(() => outgoing.destroy());
    }),
  );
}

/**
 * Listens on a host and port, or on a Unix socket that only this user may
 * connect to; resolves with the port that was given, 0 for a socket.
 */
export function listen(server: Server, address: ListenAddress): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    // The socket is bound within this call, with this mask: there is no moment in which others could connect.
    const mask = "path" in address ? process.umask(0o177) : undefined;
    server.listen(address, () => {
      server.off("error", reject);
      const bound = server.address();
      resolve(typeof bound === "object" && bound !== null ? bound.port : 0);
    });
    if (mask !== undefined) process.umask(mask);
  });
}

/** Takes no more connections, gives the requests under way `graceMs`, and closes what is left. */
export async function close(server: Server, graceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  // A connection that is kept alive is idle only once the request on it has been answered.
  const sweep = setInterval(() => server.closeIdleConnections(), IDLE_SWEEP_INTERVAL_MS);
  const timer = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearInterval(sweep);
  clearTimeout(timer);
}
