import { closeSync, openSync, readSync } from "node:fs";

import { NO_LINE, tornHash } from "./audit-log.ts";
import { sha256 } from "../system/sha256.ts";
import type { AuditHead } from "../store/audit-head.ts";

/** The result of checking a whole audit log. */
export interface Verdict {
  /** The first fault, beginning with its line; undefined when the log is intact. */
  fault: string | undefined;
  /** Complete lines that were read. */
  lines: number;
  /** Bytes of a last line without its newline: the agent's next entry records it. */
  tornBytes: number;
  /** The last entry that fits the chain. */
  head: AuditHead;
}

/** A line that a `recovered` entry right after it may explain as torn. */
interface Candidate {
  bytes: Buffer;
  /** The entry before it. */
  before: AuditHead;
  /** What is wrong with it if nothing explains it; undefined when it fits the chain itself. */
  fault?: string;
}

const CHUNK_BYTES = 1_048_576;

/**
 * Checks each line of the audit log at `path` against the line before it. `head` is an
 * entry that was recorded elsewhere: only with it, lines that were cut off the end are
 * noticed. `after` is the hash of the line before the first one, for a file that continues another file.
 *
 * Each line is one of four things: it explains a torn line, it follows the entry
 * before it, it is a candidate for a torn line, or it comes after a candidate and does not explain it - a fault.
 */
export function verifyAuditLog(path: string, { head, after }: { head?: AuditHead; after?: string }): Verdict {
  let known: AuditHead = { seq: 0, hash: after ?? NO_LINE };
  let candidate: Candidate | undefined;
  let lines = 0;
  let tornBytes = 0;
  const verdict = (fault?: string): Verdict => ({ fault, lines, tornBytes, head: known });

  for (const { bytes, isWhole } of linesOf(path)) {
    if (!isWhole) {
      tornBytes = bytes.length;
      break;
    }
    lines++;
    const entry = parse(bytes);
    const continued =
      lines === 1 && entry && after !== undefined ? { seq: entry.seq - 1, hash: after } : undefined;
    const startFault = continued && head && faultOfStart(head, continued);
    if (startFault !== undefined) return verdict(startFault);
    const before = continued ?? known;

    if (entry && candidate && explains(entry, candidate)) {
      candidate = undefined;
    } else if (candidate?.fault !== undefined) {
      return verdict(candidate.fault);
    } else if (entry && follows(entry, before)) {
      candidate = { bytes, before };
    } else {
      candidate = { bytes, before: known, fault: faultOfLine(entry, lines, known) };
      continue;
    }
    known = { seq: entry.seq, hash: sha256(bytes) };
    if (known.seq === head?.seq && known.hash !== head.hash) {
      return verdict(`line ${lines}: was changed: it is not the entry ${head.seq} that was recorded`);
    }
  }
  if (candidate?.fault !== undefined) return verdict(candidate.fault);
  if (head && known.seq < head.seq) {
    return verdict(
      `line ${lines + 1}: is missing: the entries ${known.seq + 1} to ${head.seq} existed and were removed`,
    );
  }
  return verdict();
}

/** True for the entry of an agent that found `torn` as the unfinished end of the file. */
function explains(entry: Entry, torn: Candidate): boolean {
  return (
    entry.event === "recovered" &&
    entry.prev === tornHash(torn.before.hash, torn.bytes) &&
    entry.seq === torn.before.seq + 1
  );
}

function follows(entry: Entry, before: AuditHead): boolean {
  return entry.prev === before.hash && entry.seq === before.seq + 1;
}

/** What is wrong when `head` belongs before the file; `before` is the entry that the file continues from. */
function faultOfStart(head: AuditHead, before: AuditHead): string | undefined {
  if (head.seq > before.seq) return undefined;
  if (head.seq < before.seq) {
    return `line 1: begins after the entry ${head.seq}: look for that entry in the file before this one`;
  }
  return head.hash === before.hash
    ? undefined
    : `line 1: follows another line than the entry ${head.seq} that was recorded`;
}

interface Entry {
  seq: number;
  prev: string;
  event: string;
}

function parse(bytes: Buffer): Entry | undefined {
  try {
    const entry = JSON.parse(bytes.toString()) as Partial<Entry> | null;
    const isEntry = Number.isSafeInteger(entry?.seq) && typeof entry?.prev === "string";
    return isEntry ? (entry as Entry) : undefined;
  } catch {
    return undefined;
  }
}

function faultOfLine(entry: Entry | undefined, line: number, before: AuditHead): string {
  if (!entry) return `line ${line}: was changed: it is not an entry of an audit log`;
  const due = before.seq + 1;
  if (line === 1 && entry.seq > due)
    return `line 1: the entries before ${entry.seq} were removed, or are in an older file: in that case verify with --after ${entry.prev}`;
  if (entry.seq > due)
    return `line ${line}: the entry ${due} was removed or moved: this line has ${entry.seq}`;
  if (entry.seq < due)
    return `line ${line}: was inserted or moved: its number is ${entry.seq}, expected ${due}`;
  return line === 1
    ? "line 1: was changed, or lines before it were removed"
    : `line ${line - 1}: was changed, or replaced: line ${line} follows another line`;
}

/** The lines of a file, without their newline, however long the file is. */
function* linesOf(path: string): Generator<{ bytes: Buffer; isWhole: boolean }> {
  const fd = openSync(path, "r");
  try {
    let rest: Buffer = Buffer.alloc(0);
    for (;;) {
      const chunk = Buffer.alloc(CHUNK_BYTES);
      const read = readSync(fd, chunk, 0, chunk.length, null);
      if (read === 0) break;
      rest = Buffer.concat([rest, chunk.subarray(0, read)]);
      let start = 0;
      for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n", start)) {
        yield { bytes: rest.subarray(start, end), isWhole: true };
        start = end + 1;
      }
      rest = rest.subarray(start);
    }
    if (rest.length > 0) yield { bytes: rest, isWhole: false };
  } finally {
    closeSync(fd);
  }
}
