import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from "node:http";
import { createServer as createNetServer, type Server as NetServer, type Socket } from "node:net";

import { getRequestListener } from "@hono/node-server";

/** A server as a function (Fetch standard): it answers every request and never rejects. */
export type FetchHandler = (request: Request) => Promise<Response>;

/** The limits of one HTTP server. */
export interface HttpBounds {
  /** Headers must arrive within this time, or the connection is closed with a 408. */
  headersTimeoutMs: number;
  /** A whole request must arrive within this time; the answer may take any time. */
  requestTimeoutMs: number;
  /** Idle connections are kept this long. */
  keepAliveTimeoutMs: number;
  maxHeaderBytes: number;
  /** Further connections are dropped; unbounded when left out. */
  maxConnections?: number;
}

/** An address to listen on: a port, a Unix socket, or a socket that another process has bound. `mode` is the socket's, 0600 without one. */
export type ListenAddress = { host: string; port: number } | { path: string; mode?: number } | { fd: number };

const IDLE_SWEEP_INTERVAL_MS = 50;
/** Most requests of one connection that may wait for their answers: a client that pipelines more does not read them. */
const MAX_UNANSWERED = 16;
/** A connection without traffic is closed after this time, which is longer than any request waits. */
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
 * The same listener, for connections that read their answers: node:http passes
 * all the requests of one packet at once, and an answer that nobody reads
 * stays in memory. A connection with more than MAX_UNANSWERED requests is closed.
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
    // The remaining requests of the packet also come here after the connection was closed.
    if (!socket.destroyed) listener(incoming, outgoing);
  };
}

/** A bounded server for a fetch handler. `malformed` answers what is not a valid Request. */
export function httpServer(fetch: FetchHandler, bounds: HttpBounds, malformed: () => Response): Server {
  const listener = getRequestListener(fetch, { errorHandler: malformed });
  return boundedServer(bounds).on(
    "request",
    ofReaders((incoming, outgoing) => {
      listener(incoming, outgoing).catch(() => outgoing.destroy());
    }),
  );
}

const OWNER_ONLY = 0o600;

/** Listens on an address; resolves with the port that was assigned, 0 for a Unix socket. */
export function listen(server: NetServer, address: ListenAddress): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    // The socket is bound within this call, with this mask: there is no moment in which others could connect.
    const mask = "path" in address ? process.umask(0o777 & ~(address.mode ?? OWNER_ONLY)) : undefined;
    const bindTo = "path" in address ? { path: address.path } : address;
    server.prependListener("connection", (socket: Socket) => noteArrival(socket, server));
    server.listen(bindTo, () => {
      server.off("error", reject);
      const bound = server.address();
      resolve(typeof bound === "object" && bound !== null ? bound.port : 0);
    });
    if (mask !== undefined) process.umask(mask);
  });
}

/** The connections that came through a Unix socket, and not those of another address of the same server. */
const arrivals = new WeakMap<Socket, "unix" | "tcp">();

/** The socket that accepted a connection sees it first; the server that `listenAlso` passes it to sees it again. */
function noteArrival(socket: Socket, server: NetServer): void {
  if (arrivals.has(socket)) return;
  const bound = server.address();
  arrivals.set(socket, typeof bound === "string" || bound === null ? "unix" : "tcp");
}

/** Whether a connection of a server on which `listen` was called came through a Unix socket, also one that systemd has bound. */
export function isFromUnixSocket(socket: Socket): boolean {
  return arrivals.get(socket) === "unix";
}

/** The further sockets of a server, whose connections it serves. */
const further = new WeakMap<Server, NetServer[]>();

/** Lets a server that listens also serve the connections of another address. `close` ends both. */
export async function listenAlso(server: Server, address: ListenAddress): Promise<void> {
  // As node:http sets its own sockets.
  const socket = createNetServer({ allowHalfOpen: true, noDelay: true }, (connection) =>
    server.emit("connection", connection),
  );
  socket.maxConnections = server.maxConnections;
  await listen(socket, address);
  further.set(server, [...(further.get(server) ?? []), socket]);
}

/** Where a server listens, in the form of HUB_AGENT_URL: `http://host:port` or `unix:/path`. */
export function addressOf(server: Server): string {
  const bound = server.address();
  if (bound === null || typeof bound === "string") return `unix:${bound ?? ""}`;
  const { address, port } = bound;
  return `http://${address.includes(":") ? `[${address}]` : address}:${port}`;
}

/** Accepts no more connections, gives the requests in progress `graceMs`, and closes the rest. */
export async function close(server: Server, graceMs: number): Promise<void> {
  const closed = Promise.all([server, ...(further.get(server) ?? [])].map(closing));
  server.closeIdleConnections();
  // A connection that is kept alive is idle only once the request on it has been answered.
  const sweep = setInterval(() => server.closeIdleConnections(), IDLE_SWEEP_INTERVAL_MS);
  const timer = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearInterval(sweep);
  clearTimeout(timer);
}

function closing(server: NetServer): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}
