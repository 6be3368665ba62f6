import { ApiProblem } from "../host-agent/protocol/problem.ts";
import { readAtMost } from "../host-agent/protocol/read-bytes.ts";
import { within } from "../host-agent/protocol/within.ts";
import { parseMediaType } from "./media-type.ts";
import { parseJsonText } from "./strict-json.ts";

/** The largest request body, in bytes. */
export const MAX_BODY_BYTES = 65_536;
/** A body must have arrived whole within this time. */
const BODY_TIMEOUT_MS = 10_000;

/**
 * Reads a JSON body of at most MAX_BODY_BYTES, for at most BODY_TIMEOUT_MS. Throws `unsupported_media_type`, `body_too_large`,
 * `request_timeout` and `malformed_request`.
 */
export async function readJsonBody(request: Request, optional: boolean): Promise<unknown> {
  const declared = Number(request.headers.get("content-length") ?? 0);
  if (declared > MAX_BODY_BYTES) throw tooLarge();
  if (optional && request.body === null) return {};
  const bytes = await readBytes(request);
  // Many clients name a type also for a request without a body: an empty body has none.
  if (bytes.length === 0 && optional) return {};
  if (bytes.length === 0) throw new ApiProblem("malformed_request", "body: is missing. Send a JSON object");
  checkType(request.headers);
  return parseJson(bytes);
}

function checkType(headers: Headers): void {
  const type = headers.get("content-type");
  if (type === null) {
    throw new ApiProblem(
      "unsupported_media_type",
      "header.content-type: is missing. It must be application/json",
    );
  }
  if (!isJson(type)) {
    throw new ApiProblem(
      "unsupported_media_type",
      `header.content-type: must be application/json, but it is ${JSON.stringify(type.slice(0, 100))}`,
    );
  }
  const encoding = headers.get("content-encoding") ?? "identity";
  if (encoding.toLowerCase() !== "identity") {
    throw new ApiProblem(
      "unsupported_media_type",
      `header.content-encoding: must be left out, but it is ${JSON.stringify(encoding.slice(0, 100))}`,
      { headers: { "accept-encoding": "identity" } },
    );
  }
}

/** Any parameters, but no other character encoding than UTF-8 by one of its names. */
function isJson(text: string): boolean {
  const { type, parameters } = parseMediaType(text) ?? {};
  return type === "application/json" && /^utf-?8$/i.test(parameters?.get("charset") ?? "utf-8");
}

async function readBytes(request: Request): Promise<Uint8Array> {
  const reading = new AbortController();
  try {
    return await within(BODY_TIMEOUT_MS, () => readWhole(request, reading.signal), tooSlow);
  } catch (error) {
    reading.abort();
    if (error instanceof ApiProblem) throw error;
    throw new ApiProblem("malformed_request", "body: ended before it was complete", { cause: error });
  }
}

async function readWhole(request: Request, signal: AbortSignal): Promise<Uint8Array> {
  // A declared length, which was checked above, is the body's (RFC 9112, 6.3): it needs no stream, which costs more.
  const isDeclared = request.headers.has("content-length");
  const bytes = isDeclared
    ? new Uint8Array(await request.arrayBuffer())
    : await readAtMost(request, MAX_BODY_BYTES, signal);
  if (bytes === undefined || bytes.length > MAX_BODY_BYTES) throw tooLarge();
  return bytes;
}

function parseJson(bytes: Uint8Array): unknown {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(bytes);
  } catch {
    throw new ApiProblem("malformed_request", "body: is not valid UTF-8");
  }
  return parseJsonText(text);
}

function tooSlow(): ApiProblem {
  return new ApiProblem("request_timeout", `body: did not arrive within ${BODY_TIMEOUT_MS / 1000} seconds`, {
    headers: { connection: "close" },
  });
}

/** Without `Connection: close`: closing the connection while the client still sends would lose the answer. */
function tooLarge(): ApiProblem {
  return new ApiProblem("body_too_large", `body: must be at most ${MAX_BODY_BYTES} bytes`);
}
