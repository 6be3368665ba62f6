import { constants, fchmodSync, fdatasync, fdatasyncSync, fstatSync, readSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { promisify } from "node:util";

import type { Log } from "../system/log-line.ts";
import { makeFolder } from "../system/make-folder.ts";
import { openFile } from "../system/open-file.ts";
import { sha256 } from "../system/sha256.ts";
import { refusalShare } from "./refusal-share.ts";
import type { AuditHead } from "../store/audit-head.ts";

// What belongs here: the record of changes (this file), what is recorded of each operation (audit-operations.ts), and its
// verification (audit-verify.ts, audit-cli.ts). May import system/, protocol/ and the types of store/; audit-cli.ts is a program and reads config.ts.

/** What is recorded; never a key, an argument or an Idempotency-Key. */
export interface AuditEvent {
  event: string;
  outcome: string;
  [detail: string]: string | number | null | undefined;
}

export type RecordEvent = (event: AuditEvent) => void;

/** The `prev` of the first line of all. */
export const NO_LINE = "0".repeat(64);
/** Far longer than the longest line: the last line is within this many bytes of the end. */
const TAIL_BYTES = 65_536;

export interface AuditOptions {
  now(): number;
  log: Log;
  /** The last line that is known to have been written, even if the file does not have it any more. */
  knownHead: AuditHead | undefined;
  /** Runs `work` while no other agent writes to the file. */
  exclusively<T>(work: () => T): T;
}

export type AuditLog = ReturnType<typeof openAuditLog>;

/** The `prev` of the entry that follows a torn line: it covers the line before the torn one, and the torn bytes. */
export function tornHash(hashBefore: string, torn: Buffer): string {
  return sha256(`${hashBefore}\n`, torn);
}

/**
 * The record of all changes, one JSON line each, at the end of the file at
 * `path`. Each line has its number (`seq`) and the SHA-256 of the line before
 * (`prev`), so anyone who knows the last line's hash notices a line that was
 * changed, removed or moved. A line is written with one write(2): it survives the end
 * of this process, but perhaps not a loss of power. A line that cannot be written does
 * not block what it records: `problem` reports it, and a later line records how many were lost.
 */
export function openAuditLog(path: string, { now, log, knownHead, exclusively }: AuditOptions) {
  makeFolder(dirname(path));
  const { O_APPEND, O_CREAT, O_RDWR } = constants;
  const file = openFile(path, O_APPEND | O_CREAT | O_RDWR, 0o600);
  const { fd } = file;
  fchmodSync(fd, 0o600);
  let end = readEnd(fd, knownHead);
  let lost = 0;
  let isClosed = false;
  const refusals = refusalShare(now);

  function append(event: AuditEvent): void {
    // Another agent may have written since, or our last write may have been partial.
    if (fstatSync(fd).size !== end.size) end = readEnd(fd, end);
    const { text, seq, hash } = newLines(end, { event, lost, time: new Date(now()).toISOString() });
    const bytes = Buffer.from(text);
    if (writeSync(fd, bytes) !== bytes.length) throw new Error("only a part of a line was written");
    end = { size: end.size + bytes.length, seq, hash, torn: undefined };
    lost = 0;
  }

  function record(event: AuditEvent): void {
    // After the close the descriptor's number may belong to another file.
    if (isClosed) return;
    try {
      exclusively(() => append(event));
    } catch (error) {
      if (lost++ === 0) {
        log({ level: "error", event: "audit_failed", error: String(error) });
      }
    }
  }

  /** Records how many refusals of the minute that is over have no separate line. */
  function countRefusals(): void {
    if (refusals.isMinuteOver()) endMinute();
  }

  function endMinute(): void {
    const count = refusals.endMinute();
    if (count > 0) record({ event: "refused_more", outcome: "counted", count });
  }

  return {
    record,
    /** Records a request that was refused; above the share of its key only the number of them, once a minute. */
    recordRefusal(event: AuditEvent): void {
      countRefusals();
      const keyName = typeof event["key_name"] === "string" ? event["key_name"] : "";
      if (refusals.take(keyName)) record(event);
    },
    countRefusals,
    /** The last line that this agent wrote or read. */
    head: (): AuditHead => ({ seq: end.seq, hash: end.hash }),
    /** Resolves once every line that was written is on the disk (fdatasync(2)). Rejects when the disk fails. */
    async sync(): Promise<void> {
      if (!isClosed) await promisify(fdatasync)(fd);
    },
    /** What is wrong, in a sentence without paths; undefined when nothing is. */
    problem: (): string | undefined => (lost > 0 ? "the audit log cannot be written" : undefined),
    close(): void {
      if (isClosed) return;
      endMinute();
      isClosed = true;
      try {
        fdatasyncSync(fd);
      } catch (error) {
        log({ level: "error", event: "audit_failed", error: String(error) });
      } finally {
        file[Symbol.dispose]();
      }
    },
  };
}

/** The end of the file: the torn bytes, if any, come after the entry `seq`. */
interface End extends AuditHead {
  size: number;
  torn: Buffer | undefined;
}

/** The lines to append for one event: before it what is still to be recorded of torn and lost lines. */
function newLines(end: End, { event, lost, time }: { event: AuditEvent; lost: number; time: string }) {
  let { seq, hash } = end;
  let text = "";
  function add(entry: AuditEvent, prev = hash): void {
    const line = JSON.stringify({ seq: ++seq, time, ...entry, prev });
    hash = sha256(line);
    text += `${line}\n`;
  }
  if (end.torn) {
    text = "\n";
    add({ event: "recovered", outcome: "torn", torn_bytes: end.torn.length }, tornHash(hash, end.torn));
  }
  if (lost > 0) add({ event: "lost", outcome: "unwritten", count: lost });
  add(event);
  return { text, seq, hash };
}

function readEnd(fd: number, known: AuditHead | undefined): End {
  const { size } = fstatSync(fd);
  const start = Math.max(0, size - TAIL_BYTES);
  const tail = Buffer.alloc(size - start);
  readSync(fd, tail, 0, tail.length, start);
  const wholeEnd = tail.lastIndexOf("\n") + 1;
  const torn = wholeEnd < tail.length ? tail.subarray(wholeEnd) : undefined;
  if (wholeEnd === 0) return { size, torn, seq: known?.seq ?? 0, hash: known?.hash ?? NO_LINE };
  const line = tail.subarray(wholeEnd > 1 ? tail.lastIndexOf("\n", wholeEnd - 2) + 1 : 0, wholeEnd - 1);
  return { size, torn, seq: seqOf(line) ?? known?.seq ?? 0, hash: sha256(line) };
}

/** The number of a line; undefined for a line that is not an entry of ours. */
function seqOf(line: Buffer): number | undefined {
  try {
    const { seq } = JSON.parse(line.toString()) as { seq?: unknown };
    return Number.isSafeInteger(seq) ? (seq as number) : undefined;
  } catch {
    return undefined;
  }
}
