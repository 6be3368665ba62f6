import { ApiProblem } from "../host-agent/protocol/problem.ts";
import { parseStrictJson } from "./strict-json.ts";

/** The largest request body, in bytes. */
export const MAX_BODY_BYTES = 65_536;
/** A body must have arrived whole within this time. */
const BODY_TIMEOUT_MS = 10_000;

/**
 * Reads a JSON body, at most MAX_BODY_BYTES of it and no longer than
 * BODY_TIMEOUT_MS. Throws `unsupported_media_type`, `body_too_large`,
 * `request_timeout` and `malformed_request`.
 */
export async function readJsonBody(request: Request, optional: boolean): Promise<unknown> {
  const declared = Number(request.headers.get("content-length") ?? 0);
  if (declared > MAX_BODY_BYTES) throw tooLarge();
  const type = request.headers.get("content-type");
  if (optional && type === null && request.body === null) return {};
  if (type !== null && !isJson(type)) {
    throw new ApiProblem(
      "unsupported_media_type",
      `header.content-type: must be application/json, but it is ${JSON.stringify(type.slice(0, 100))}`,
    );
  }
  const encoding = request.headers.get("content-encoding") ?? "identity";
  if (encoding.toLowerCase() !== "identity") {
    throw new ApiProblem(
      "unsupported_media_type",
      `header.content-encoding: must be left out, but it is ${JSON.stringify(encoding.slice(0, 100))}`,
      { headers: { "accept-encoding": "identity" } },
    );
  }
  const bytes = await readBytes(request);
  if (bytes.length === 0 && optional) return {};
  if (bytes.length === 0) throw new ApiProblem("malformed_request", "body: is missing; send a JSON object");
  if (type === null) {
    throw new ApiProblem(
      "unsupported_media_type",
      "header.content-type: is missing; it must be application/json",
    );
  }
  return parseJson(bytes);
}

function isJson(type: string): boolean {
  return /^application\/json\s*(?:;\s*charset="?utf-8"?\s*)?$/i.test(type);
}

async function readBytes(request: Request): Promise<Uint8Array> {
  const { promise: tooLate, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    reject(
      new ApiProblem("request_timeout", `body: did not arrive within ${BODY_TIMEOUT_MS / 1000} seconds`, {
        headers: { connection: "close" },
      }),
    );
  }, BODY_TIMEOUT_MS);
  try {
    // A declared length, which has been looked at, is the body's (RFC 9112, 6.3): no stream need be made of it.
    const isDeclared = request.headers.has("content-length");
    const bytes = isDeclared
      ? new Uint8Array(await Promise.race([request.arrayBuffer(), tooLate]))
      : await readStream(request.body, tooLate);
    if (bytes.length > MAX_BODY_BYTES) throw tooLarge();
    return bytes;
  } catch (error) {
    if (error instanceof ApiProblem) throw error;
    throw new ApiProblem("malformed_request", "body: broke off before its end", { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

/** Reads a little more than MAX_BODY_BYTES at most. */
async function readStream(
  body: ReadableStream<Uint8Array> | null,
  tooLate: Promise<never>,
): Promise<Uint8Array> {
  if (!body) return new Uint8Array();
  const reader = body.getReader();
  try {
    const chunks: Uint8Array[] = [];
    let length = 0;
    for (;;) {
      const { done, value } = await Promise.race([reader.read(), tooLate]);
      if (done) return concat(chunks, length);
      length += value.length;
      if (length > MAX_BODY_BYTES) throw tooLarge();
      chunks.push(value);
    }
  } catch (error) {
    // Not awaited: a client that sends slowly would hold us up here again.
    reader.cancel().catch(() => undefined);
    throw error;
  }
}

function concat(chunks: Uint8Array[], length: number): Uint8Array {
  if (chunks.length === 1) return chunks[0]!;
  const all = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    all.set(chunk, offset);
    offset += chunk.length;
  }
  return all;
}

function parseJson(bytes: Uint8Array): unknown {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(bytes);
  } catch {
    throw new ApiProblem("malformed_request", "body: is not valid UTF-8");
  }
  return parseStrictJson(text);
}

/** Without `Connection: close`: a connection that closes while the client still sends loses the answer. */
function tooLarge(): ApiProblem {
  return new ApiProblem("body_too_large", `body: must be at most ${MAX_BODY_BYTES} bytes`);
}
