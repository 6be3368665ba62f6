import { closeSync, openSync, readSync } from "node:fs";

import { NO_LINE, tornHash } from "./audit-log.ts";
import { sha256 } from "../system/sha256.ts";
import type { AuditHead } from "../store/run-store.ts";

/** What a look at a whole audit log found. */
export interface Verdict {
  /** What is wrong, beginning with the line; undefined when nothing is. */
  fault: string | undefined;
  lines: number;
  /** Bytes of a last line that was not written to its end: the next entry will say so. */
  tornBytes: number;
  head: AuditHead;
}

const CHUNK_BYTES = 1_048_576;

/**
 * Checks every line of the audit log at `path` against the one before. `head` is a
 * line that is known to have been written: only with it a cut at the end can be
 * seen. `after` is the hash of the line before the first one, in a file that goes on with another one.
 */
export function verifyAuditLog(path: string, { head, after }: { head?: AuditHead; after?: string }): Verdict {
  let state: AuditHead = { seq: 0, hash: after ?? NO_LINE };
  /** The last line that was taken for whole, and what stood before it: it may turn out to be a torn one. */
  let last: { bytes: Buffer; before: AuditHead } | undefined;
  /** A line that only a following `recovered` can explain. */
  let suspect: { fault: string; bytes: Buffer } | undefined;
  let lines = 0;
  let tornBytes = 0;
  const verdict = (fault: string | undefined): Verdict => ({ fault, lines, tornBytes, head: state });

  for (const { bytes, isWhole } of linesOf(path)) {
    if (!isWhole) {
      tornBytes = bytes.length;
      break;
    }
    lines++;
    const entry = parse(bytes);
    const next = { seq: entry?.seq ?? 0, hash: sha256(bytes) };
    const torn = suspect ? { bytes: suspect.bytes, before: state } : last;
    const isFirstOfFile = lines === 1 && after !== undefined;
    if (isFirstOfFile && entry && head && head.seq < entry.seq) {
      const fault = olderHead(head, { seq: entry.seq - 1, hash: after });
      if (fault !== undefined) return verdict(fault);
    }
    if (
      entry?.event === "recovered" &&
      torn &&
      entry.prev === tornHash(torn.before.hash, torn.bytes) &&
      entry.seq === torn.before.seq + 1
    ) {
      suspect = undefined;
      last = undefined;
      state = next;
    } else if (suspect) {
      return verdict(suspect.fault);
    } else if (entry && entry.prev === state.hash && (isFirstOfFile || entry.seq === state.seq + 1)) {
      last = { bytes, before: isFirstOfFile ? { ...state, seq: entry.seq - 1 } : state };
      state = next;
    } else {
      suspect = { bytes, fault: faultOf(entry, lines, state) };
      continue;
    }
    if (head && state.seq === head.seq && state.hash !== head.hash) {
      return verdict(`line ${lines}: was changed: it is not the entry ${head.seq} that was recorded`);
    }
  }
  if (suspect) return verdict(suspect.fault);
  if (head && state.seq < head.seq) {
    return verdict(
      `line ${lines + 1}: is missing: the entries ${state.seq + 1} to ${head.seq} were there and are gone`,
    );
  }
  return verdict(undefined);
}

/** What is wrong with a known line that must lie before the file; `before` is the one that the file goes on from. */
function olderHead(head: AuditHead, before: AuditHead): string | undefined {
  if (head.seq < before.seq)
    return `line 1: begins behind the entry ${head.seq}: look for that one in the file before this one`;
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

function faultOf(entry: Entry | undefined, line: number, before: AuditHead): string {
  if (!entry) return `line ${line}: was changed: it is no entry of an audit log`;
  const due = before.seq + 1;
  if (line === 1 && entry.seq > due)
    return `line 1: the entries before ${entry.seq} were removed, or lie in an older file: then verify with --after ${entry.prev}`;
  if (entry.seq > due) return `line ${line}: the entry ${due} was removed or moved: here stands ${entry.seq}`;
  if (entry.seq < due)
    return `line ${line}: was inserted or moved: it has the number ${entry.seq} and should have ${due}`;
  return line === 1
    ? "line 1: was changed, or lines before it were removed"
    : `line ${line - 1}: was changed, or replaced: line ${line} follows another one`;
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
