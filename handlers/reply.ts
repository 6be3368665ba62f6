/** An answer as data. toResponse adds the headers of every answer. */
export interface Reply {
  status: number;
  headers?: Record<string, string> | undefined;
  /** Sent as JSON; ignored when there are `bytes`. */
  json?: unknown;
  bytes?: Uint8Array | undefined;
}

/** 200 with a JSON body. */
export function ok(json: unknown): Reply {
  return { status: 200, json };
}

/** On every answer: a browser may not guess its type, frame it or keep it. */
const COMMON_HEADERS = {
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "referrer-policy": "no-referrer",
};

/** The Response for a reply. A HEAD request gets the same without the body. */
export function toResponse(
  reply: Reply,
  { requestId, method }: { requestId: string; method: string },
): Response {
  const headers = {
    ...COMMON_HEADERS,
    "content-type": "application/json",
    ...reply.headers,
    "x-request-id": requestId,
  };
  const { status } = reply;
  // With a newline, so that a shell's prompt begins on its own line.
  const body = reply.bytes ?? (reply.json === undefined ? undefined : `${JSON.stringify(reply.json)}\n`);
  // A 304 has no body.
  if (body === undefined) return new Response(null, { status, headers });
  if (method !== "HEAD") return new Response(body as string | Uint8Array<ArrayBuffer>, { status, headers });
  const { length } = typeof body === "string" ? new TextEncoder().encode(body) : body;
  return new Response(null, { status, headers: { ...headers, "content-length": String(length) } });
}
