import { createServer, type Server } from "node:http";

import { getRequestListener } from "@hono/node-server";

import type { Fetch } from "../handlers/agent-client.ts";

/** Headers must arrive within this time, or the connection is closed with a 408. */
const HEADERS_TIMEOUT_MS = 10_000;
/** Longer than a body may take in handlers/body.ts, which answers better. */
const REQUEST_TIMEOUT_MS = 30_000;
const MAX_HEADER_BYTES = 16_384;
/** Idle connections are kept so long; proxies in front keep theirs shorter. */
const KEEP_ALIVE_TIMEOUT_MS = 65_000;
const IDLE_SWEEP_INTERVAL_MS = 50;

/** An HTTP server of node:http for a fetch handler, bounded in time and size. */
export function httpServer(fetch: Fetch): Server {
  const listener = getRequestListener(fetch, {
    errorHandler: () => malformedRequest(),
  });
  return createServer(
    {
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      maxHeaderSize: MAX_HEADER_BYTES,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
      connectionsCheckingInterval: 2_000,
    },
    (incoming, outgoing) => {
      listener(incoming, outgoing).catch(() => outgoing.destroy());
    },
  );
}

/** Only for a request that cannot even be made a Request: the handlers answer all others. */
function malformedRequest(): Response {
  return Response.json(
    {
      type: "urn:serveraihub:problem:malformed_request",
      title: "The request is malformed",
      status: 400,
      detail: "The request line or the Host header makes no valid URL",
      code: "malformed_request",
    },
    { status: 400, headers: { "content-type": "application/problem+json", connection: "close" } },
  );
}

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
  // A connection that is kept alive is idle only once the request on it has been answered.
  const sweep = setInterval(() => server.closeIdleConnections(), IDLE_SWEEP_INTERVAL_MS);
  const timer = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearInterval(sweep);
  clearTimeout(timer);
}
