import { MAX_LOG_PAGE_BYTES } from "../../host-agent/protocol/limits.ts";

/** Reads at most `maxBytes` bytes of a log from byte `after` on; `offset` is the next byte to ask for. */
export type ReadBytes = (
  after: number,
  maxBytes: number,
) => Promise<{ bytes: Uint8Array; offset: number; more: boolean }>;

/**
 * Finds the next match of `needle` from byte `from` on, or the one before it, in a log
 * of any size, page by page. ASCII letters match in either case. Resolves with the byte
 * where the match starts, or undefined. `onProgress` receives the byte that the search
 * has reached; an aborted `signal` ends the search.
 */
export async function findInLog(
  read: ReadBytes,
  needle: string,
  {
    from,
    backwards,
    onProgress,
    signal,
  }: {
    from: number;
    backwards: boolean;
    onProgress(byte: number): void;
    signal: AbortSignal;
  },
): Promise<number | undefined> {
  const wanted = foldedBytes(new TextEncoder().encode(needle));
  const overlap = wanted.length - 1;
  if (overlap < 0 || overlap >= MAX_LOG_PAGE_BYTES) return undefined;
  let at = from;
  while (!signal.aborted) {
    const start = backwards ? Math.max(0, at - (MAX_LOG_PAGE_BYTES - overlap)) : at;
    const page = await read(start, backwards ? at - start + overlap : MAX_LOG_PAGE_BYTES);
    const text = foldedBytes(page.bytes);
    const found = backwards ? text.lastIndexOf(wanted, at - start - 1) : text.indexOf(wanted);
    if (found >= 0 && (!backwards || at > start)) return start + found;
    if (backwards ? start === 0 : !page.more) return undefined;
    at = backwards ? start : Math.max(start + 1, page.offset - overlap);
    onProgress(at);
  }
  return undefined;
}

/** One character a byte, so that an index is an offset. */
function foldedBytes(bytes: Uint8Array): string {
  const text = new TextDecoder("latin1").decode(bytes);
  return text.replaceAll(/[A-Z]+/g, (letters) => letters.toLowerCase());
}
