import type { Reply } from "./reply.ts";

/** The bytes, or 304 when If-None-Match names their ETag (RFC 9110, 13.1.2: weak comparison). */
export function cached(
  request: Headers,
  bytes: Uint8Array,
  headers: Record<string, string> & { etag: string },
): Reply {
  const known = (request.get("if-none-match") ?? "").split(",").map((tag) => tag.trim().replace(/^W\//, ""));
  if (known.includes(headers.etag)) return { status: 304, headers };
  return { status: 200, headers, bytes };
}
