import { closeSync, constants, fchmodSync, openSync, readSync } from "node:fs";
import { basename, dirname } from "node:path";

import { openLogFolder, placeIn } from "./log-folder.ts";
import { isReplacement, logEndMark } from "./log-limit.ts";
import { NotRegularFile, openFile } from "../system/open-file.ts";
import { unreadableCode } from "../system/exhaustion.ts";
import { ApiProblem } from "../protocol/problem.ts";
import { endOfPage, MAX_CHARACTER_BYTES } from "./utf8.ts";

/** A piece of a log, cut at a character. */
export interface LogPage {
  bytes: Uint8Array;
  /** The next byte to ask for. */
  offset: number;
  /** The log's size when it was read. */
  size: number;
  /** The log is over its limit: it never gets longer. */
  isCut: boolean;
}

const LOG_MODE = 0o640;
/** What open(2) says of a path that leads to no log of ours; whatever else it says may pass. */
const NO_LOG = new Set(["ENOENT", "ENOTDIR", "ELOOP", "ENXIO"]);

/**
 * Creates a log that did not exist, for appending, and never through a symbolic
 * link that another user could have put there. Throws EEXIST when there is
 * anything at `path`, and as `openLogFolder` does.
 */
export function createLog(path: string): { fd: number } & Disposable {
  const { O_APPEND, O_CREAT, O_EXCL, O_WRONLY } = constants;
  using folder = openLogFolder(dirname(path));
  // O_EXCL follows no link at the end of the path (open(2)).
  const flags = O_WRONLY | O_CREAT | O_EXCL | O_APPEND;
  const fd = openSync(placeIn(folder.fd, basename(path)), flags, LOG_MODE);
  // The mode given to open(2) is less our umask.
  fchmodSync(fd, LOG_MODE);
  return { fd, [Symbol.dispose]: () => closeSync(fd) };
}

/**
 * Reads at most `maxBytes` bytes (one character if that is longer) from byte
 * `after` on, with one pread(2) whatever the log's size. While `growing`, a
 * character that is not complete yet waits at the end of the file. A log that is
 * over its `limit` is its first `limit` bytes and the line that reports it. Throws
 * `log_gone`, `offset_beyond_end`, and `host_unavailable` when the log cannot be read now.
 */
export async function readPage(path: string, request: PageRequest): Promise<LogPage> {
  try {
    return pageOf(path, request);
  } catch (error) {
    const errno = unreadableCode(error);
    if (errno === undefined) throw error;
    throw new ApiProblem("host_unavailable", `The log cannot be read now (${errno})`, { cause: error });
  }
}

function pageOf(path: string, { after, maxBytes, growing, limit, identity }: PageRequest): LogPage {
  using log = openLog(path, identity);
  const fileSize = log.size;
  const mark = limit !== undefined && fileSize > limit ? logEndMark(limit) : undefined;
  const size = mark ? limit! + mark.length : fileSize;
  if (after > size) throw beyondEnd(after, size);
  // A few bytes more than asked for, to know the character at the cut.
  const wanted = Math.min(maxBytes + MAX_CHARACTER_BYTES - 1, size - after);
  const buffer = Buffer.allocUnsafe(wanted);
  const bytesRead = readSync(log.fd, buffer, 0, wanted, after);
  // Whatever the file holds behind its limit: the run may be writing there at this moment.
  const markAt = mark ? limit! - after : wanted;
  const isMarkShown = mark !== undefined && markAt < wanted && bytesRead >= markAt;
  if (isMarkShown) mark.copy(buffer, Math.max(markAt, 0), Math.max(-markAt, 0));
  const bytes = buffer.subarray(0, isMarkShown ? wanted : bytesRead);
  let end = endOfPage(bytes, maxBytes);
  // At the end of a log that is complete nothing waits: what is cut off there stays so.
  const isComplete = !growing || mark !== undefined;
  const { length } = bytes;
  if (isComplete && after + length >= size && (end === 0 || length <= maxBytes)) end = length;
  return { bytes: bytes.subarray(0, end), offset: after + end, size, isCut: mark !== undefined };
}

/** The page of a log that never existed, because its run was never started. Throws `offset_beyond_end`. */
export function emptyPage(after: number): LogPage {
  if (after > 0) throw beyondEnd(after, 0);
  return { bytes: new Uint8Array(), offset: 0, size: 0, isCut: false };
}

function beyondEnd(after: number, size: number): ApiProblem {
  return new ApiProblem("offset_beyond_end", `after: ${after} is beyond the log's ${size} bytes`, { size });
}

interface PageRequest {
  after: number;
  maxBytes: number;
  growing: boolean;
  limit?: number | undefined;
  /** As `fileIdentity` has it, of the file that must be at the path; undefined for any. */
  identity?: string | undefined;
}

/**
 * The last `maxBytes` bytes, decoded leniently; "" when the log is gone, or is not the file `identity`. Throws when it
 * exists and cannot be read now.
 */
export function readTail(path: string, maxBytes: number, identity?: string): string {
  try {
    using log = openLog(path, identity);
    const start = Math.max(0, log.size - maxBytes);
    const buffer = Buffer.alloc(log.size - start);
    const bytesRead = readSync(log.fd, buffer, 0, buffer.length, start);
    const text = new TextDecoder().decode(buffer.subarray(0, bytesRead));
    // The first line is most likely cut off.
    return start === 0 ? text : text.slice(text.indexOf("\n") + 1);
  } catch (error) {
    if (error instanceof ApiProblem) return "";
    throw error;
  }
}

/**
 * Opens a log to be read. Synchronous, as is all that reads it: a page is in the
 * kernel's memory nearly always, and four trips to the thread pool cost more than it. Throws `log_gone`, also for
 * a file in the place of `identity`.
 */
function openLog(path: string, identity?: string): { fd: number; size: number } & Disposable {
  try {
    const file = openFile(path);
    if (identity === undefined || !isReplacement(file.stats, identity)) {
      return { fd: file.fd, size: file.stats.size, [Symbol.dispose]: () => file[Symbol.dispose]() };
    }
    file[Symbol.dispose]();
  } catch (error) {
    const isGone = error instanceof NotRegularFile || NO_LOG.has((error as NodeJS.ErrnoException).code ?? "");
    if (!isGone) throw error;
  }
  throw new ApiProblem("log_gone", "The log no longer exists: it was moved, removed or replaced on the host");
}
