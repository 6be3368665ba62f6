import { Agent, type IncomingMessage, request as httpRequest } from "node:http";
import { Readable } from "node:stream";

import type { Fetch } from "../../handlers/agent-transport.ts";

/** Answers with these have no body (Fetch standard, "null body status"). */
const NULL_BODY_STATUS = new Set([204, 205, 304]);

/** A fetch that sends every request to the Unix socket at `path`, for any host in the URL. Node's own fetch has no such option. */
export function unixFetch(path: string): Fetch {
  const agent = new Agent({ keepAlive: true });
  return async (request) => {
    const body = request.body === null ? undefined : new Uint8Array(await request.arrayBuffer());
    const { host, pathname, search } = new URL(request.url);
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const outgoing = httpRequest(
      {
        socketPath: path,
        agent,
        method: request.method,
        path: pathname + search,
        headers: {
          ...Object.fromEntries(request.headers),
          host,
          ...(body && { "content-length": body.length }),
        },
        signal: request.signal,
      },
      resolve,
    );
    outgoing.once("error", reject);
    outgoing.end(body);
    return toResponse(await promise);
  };
}

function toResponse(incoming: IncomingMessage): Response {
  const headers = new Headers();
  for (const [name, values] of Object.entries(incoming.headersDistinct)) {
    for (const value of values ?? []) headers.append(name, value);
  }
  const status = incoming.statusCode!;
  if (NULL_BODY_STATUS.has(status)) {
    incoming.resume();
    return new Response(null, { status, headers });
  }
  return new Response(Readable.toWeb(incoming) as ReadableStream, { status, headers });
}
