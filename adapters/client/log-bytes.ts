import { MAX_LOG_PAGE_BYTES } from "../../host-agent/protocol/limits.ts";
import { describeAnswer, notAHub, numberHeader } from "./answers.ts";

/** A page of a log in raw bytes; the numbers are those of the API. */
export interface LogBytes {
  bytes: Uint8Array<ArrayBuffer>;
  /** The next byte to ask for. */
  offset: number;
  /** The log's size in bytes. */
  size: number;
  more: boolean;
}

export interface LogQuery {
  /** The byte to start at. */
  after: number;
  maxBytes: number;
  /** For how long the server may wait for new bytes. */
  waitSeconds?: number;
  signal?: AbortSignal | undefined;
}

/** Reads a page of one run's log. */
export type ReadLog = (query: LogQuery) => Promise<LogBytes>;

/** How far to step back at once in search of a line. */
const STEP_BYTES = 262_144;
const NEWLINE = 0x0a;

/** Reads an answer of `…/logs` as a page that starts at byte `after`. Throws a HubError of kind `not-a-hub`. */
export async function readLogBytes(response: Response, after: number): Promise<LogBytes> {
  const bytes = new Uint8Array(await response.arrayBuffer());
  const offset = numberHeader(response, "hub-log-offset");
  const size = numberHeader(response, "hub-log-size");
  if (offset === undefined || size === undefined || offset < after) {
    throw notAHub(
      response,
      `${describeAnswer(response)} without the log's offsets: the server is not a Hub, or an older version`,
    );
  }
  return { bytes, offset, size, more: response.headers.get("hub-log-more") === "true" };
}

/** The log's pages from byte `after` to its present end, the largest that the API gives. */
export async function* logPages(
  read: ReadLog,
  after: number,
  signal?: AbortSignal,
): AsyncGenerator<LogBytes> {
  for (let next = after, more = true; more;) {
    const page = await read({ after: next, maxBytes: MAX_LOG_PAGE_BYTES, signal });
    yield page;
    next = page.offset;
    // At the end of a log that grows, an incomplete character is not sent yet: more, but no bytes.
    more = page.more && page.bytes.length > 0;
  }
}

/** The bytes from `start` to `end`, in as many pages as that takes; fewer when the log ends before. */
export async function readRange(read: ReadLog, start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
  const all = new Uint8Array(end - start);
  let length = 0;
  while (length < all.length) {
    const page = await read({ after: start + length, maxBytes: all.length - length });
    if (page.bytes.length === 0) break;
    // A page may hold a whole character where fewer bytes were asked for.
    const bytes = page.bytes.subarray(0, all.length - length);
    all.set(bytes, length);
    length += bytes.length;
  }
  return all.subarray(0, length);
}

/** The offset at which the last `lines` lines of the log begin. Reads no more than it must, from the end. */
export async function tailOffset(read: ReadLog, lines: number): Promise<number> {
  const { size } = await read({ after: 0, maxBytes: 1 });
  if (lines === 0) return size;
  // The newline that ends the last line begins none.
  let left = lines + 1;
  let end = size;
  while (end > 0) {
    const start = Math.max(0, end - STEP_BYTES);
    const block = await readRange(read, start, end);
    if (end === size && block.at(-1) !== NEWLINE) left--;
    for (let i = block.length - 1; i >= 0; i--) {
      if (block[i] === NEWLINE && --left <= 0) return start + i + 1;
    }
    end = start;
  }
  return 0;
}
