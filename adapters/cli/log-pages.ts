import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { type Api, ApiError } from "./api.ts";
import { runPath } from "./runs.ts";

/** A page of a log in raw bytes; the numbers are those of the API. */
export interface Page {
  bytes: Uint8Array;
  /** The next byte to ask for. */
  offset: number;
  size: number;
  more: boolean;
}

export interface PageRequest {
  after: number;
  maxBytes: number;
  /** For how long the server may wait for something new. */
  waitSeconds?: number;
  signal?: AbortSignal | undefined;
}

/** Time for the answer itself, beside the wait. */
const ANSWER_SECONDS = 20;
/** How far to step back at once in search of a line. */
const STEP_BYTES = 262_144;
const NEWLINE = 0x0a;

/** Reads one page of a run's log. */
export async function readPage(api: Api, run: RunRecord, request: PageRequest): Promise<Page> {
  const { after, maxBytes, waitSeconds = 0, signal } = request;
  const { headers, bytes } = await api.bytes(`${runPath(run)}/logs`, {
    query: { after, max_bytes: maxBytes, ...(waitSeconds > 0 && { wait: waitSeconds }) },
    timeoutSeconds: waitSeconds + ANSWER_SECONDS,
    signal,
  });
  const offset = wholeNumber(headers.get("hub-log-offset"));
  const size = wholeNumber(headers.get("hub-log-size"));
  if (offset === undefined || size === undefined || offset < after) {
    throw new ApiError(
      `${api.host.url} answered without the log's offsets: the server is no Hub, or an older one`,
    );
  }
  return { bytes, offset, size, more: headers.get("hub-log-more") === "true" };
}

function wholeNumber(text: string | null): number | undefined {
  return text !== null && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** The offset at which the last `lines` lines of the log begin. Reads no more than it must, from the end. */
export async function tailOffset(api: Api, run: RunRecord, lines: number): Promise<number> {
  const { size } = await readPage(api, run, { after: 0, maxBytes: 1 });
  if (lines === 0) return size;
  // The newline that ends the last line begins none.
  let left = lines + 1;
  let end = size;
  while (end > 0) {
    const start = Math.max(0, end - STEP_BYTES);
    const block = await readBlock(api, run, start, end);
    if (end === size && block.at(-1) !== NEWLINE) left--;
    for (let i = block.length - 1; i >= 0; i--) {
      if (block[i] === NEWLINE && --left <= 0) return start + i + 1;
    }
    end = start;
  }
  return 0;
}

/** The bytes from `start` to `end`, which a page alone need not hold. */
async function readBlock(api: Api, run: RunRecord, start: number, end: number): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for (let after = start; after < end;) {
    const { bytes, offset } = await readPage(api, run, { after, maxBytes: end - after });
    if (bytes.length === 0) break;
    pieces.push(bytes);
    after = offset;
  }
  return new Uint8Array(Buffer.concat(pieces).subarray(0, end - start));
}
