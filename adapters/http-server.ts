import type { Server } from "node:http";

import type { Fetch } from "../handlers/agent-client.ts";
import * as listener from "../host-agent/http-listener.ts";

export { close, listen } from "../host-agent/http-listener.ts";

const BOUNDS: listener.HttpBounds = {
  headersTimeoutMs: 10_000,
  /** Longer than a body may take in handlers/body.ts, which answers better. */
  requestTimeoutMs: 30_000,
  /** Proxies in front keep theirs shorter. */
  keepAliveTimeoutMs: 65_000,
  maxHeaderBytes: 16_384,
};

/** The HTTP server of the public API. */
export function httpServer(fetch: Fetch): Server {
  return listener.httpServer(fetch, BOUNDS, malformedRequest);
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
