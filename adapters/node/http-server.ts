import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";

import { getRequestListener } from "@hono/node-server";

import { boundedServer, type HttpBounds, ofReaders } from "../../host-agent/system/http-listener.ts";
import { clientAddress, type TrustedProxy } from "./client-address.ts";
import { refusal, refusalOf, repeatedHeader, sendRefusal, writeRefusal } from "./refusal.ts";

export { addressOf, close, listen, listenAlso } from "../../host-agent/system/http-listener.ts";

const BOUNDS: HttpBounds = {
  headersTimeoutMs: 10_000,
  /** Longer than handlers/body.ts waits for a body, because its answer is better. */
  requestTimeoutMs: 30_000,
  /** Longer than those of common proxies, which must close a connection first. */
  keepAliveTimeoutMs: 65_000,
  maxHeaderBytes: 16_384,
  /** Leaves file descriptors for runs and their logs when clients keep many connections open. */
  maxConnections: 8_192,
};

/** A fetch handler that also receives the client's address. */
type FetchFrom = (request: Request, from: { address: string | undefined }) => Promise<Response>;

/**
 * An HTTP server of node:http for a fetch handler, bounded in time and size. It
 * answers with a problem when no Request can be made. What `trustedProxies` say of a
 * client's address is believed.
 */
export function httpServer(fetch: FetchFrom, trustedProxies: readonly TrustedProxy[] = []): Server {
  const endOfTurn = turnEnds();
  const serveFetch = async (request: Request, { incoming }: { incoming: IncomingMessage }) => {
    const response = await fetch(request, { address: clientAddress(incoming, trustedProxies) });
    if (request.method === "GET") await endOfTurn();
    return response;
  };
  const listener = getRequestListener(serveFetch as never, {
    errorHandler: () => refusal("malformed_request", BAD_URL),
  });
  /** The last request of each connection and its answer. */
  const exchanges = new WeakMap<Duplex, { incoming: IncomingMessage; outgoing: ServerResponse }>();

  const refused = new WeakSet<Duplex>();

  function serve(incoming: IncomingMessage, outgoing: ServerResponse): void {
    // HTTP/1.0 has no Host (RFC 1945), and health checks of proxies speak it. HTTP/1.1 needs one.
    if (incoming.httpVersion === "1.0") incoming.headers.host ??= "localhost";
    exchanges.set(incoming.socket, { incoming, outgoing });
    const repeated = repeatedHeader(incoming);
    const answered = repeated
      ? sendRefusal(outgoing, refusal("malformed_request", `header.${repeated}: is given more than once`))
      : listener(incoming, outgoing);
    answered.catch(() => outgoing.destroy());
  }

  function refuse(fault: NodeJS.ErrnoException, socket: Duplex): void {
    // A client that connects ahead would read it as the answer to its next request.
    if (fault.code === "ERR_HTTP_REQUEST_TIMEOUT" && hasSentNothing(socket)) return void socket.destroy();
    const { incoming, outgoing } = exchanges.get(socket) ?? {};
    const isAnswering = outgoing !== undefined && !outgoing.writableFinished;
    if (refused.has(socket)) return;
    refused.add(socket);
    const send = () => void writeRefusal(socket, refusalOf(fault));
    if (!isAnswering) send();
    // The fault is in the next request on the connection: the answer to this one goes first.
    else if (incoming!.complete) outgoing.once("finish", send);
    else if (outgoing.headersSent) socket.destroy();
    else send();
  }

  // Without a Host no URL can be made: the answer is our own 400, not node's empty one.
  return boundedServer(BOUNDS, { requireHostHeader: false })
    .on("request", ofReaders(serve))
    .on("checkExpectation", serve)
    .on("clientError", refuse)
    .on("connect", (_incoming, socket) => {
      void writeRefusal(
        socket,
        refusal("method_not_allowed", "CONNECT is not allowed here", { allow: "GET, HEAD, POST" }),
      );
    });
}

function hasSentNothing(socket: Duplex): boolean {
  return socket instanceof Socket && socket.bytesRead === 0;
}

const BAD_URL = "The request line and the Host header do not make a valid http URL";

/**
 * Sends the answers of one turn of the event loop together: the first one wakes the
 * client, which is the expensive part, and the others find it awake.
 */
function turnEnds(): () => Promise<void> {
  let end: Promise<void> | undefined;
  return () =>
    (end ??= new Promise((resolve) => {
      setImmediate(() => {
        end = undefined;
        resolve();
      });
    }));
}
