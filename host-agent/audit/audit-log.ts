import { constants, fchmodSync, fstatSync, mkdirSync, readSync, writeSync } from "node:fs";
import { dirname } from "node:path";

import type { Log } from "../system/log-line.ts";
import { openFile } from "../system/open-file.ts";
import { sha256 } from "../system/sha256.ts";
import type { AuditHead } from "../store/run-store.ts";

/** What is recorded; never a key, an argument or an Idempotency-Key. */
export interface AuditEvent {
  event: string;
  outcome: string;
  [detail: string]: string | number | null | undefined;
}

export type RecordEvent = (event: AuditEvent) => void;

/** The `prev` of the first line of all. */
export const NO_LINE = "0".repeat(64);
/** Far more than the longest line: the last line lies within so many bytes of the end. */
const TAIL_BYTES = 65_536;
/** So many refusals a minute have a line each; the others are counted, or anybody could fill the disk. */
const REFUSALS_PER_MINUTE = 100;
const MINUTE_MS = 60_000;

export interface AuditOptions {
  now(): number;
  log: Log;
  /** The last line that is known to have been written, also when the file does not have it any more. */
  knownHead: AuditHead | undefined;
  /** Runs work while no other agent writes to the file. */
  exclusively<T>(work: () => T): T;
}

export type AuditLog = ReturnType<typeof openAuditLog>;

/** The `prev` of the entry that follows a torn line: it covers the line before and the torn bytes. */
export function tornHash(hashBefore: string, torn: Buffer): string {
  return sha256(`${hashBefore}\n`, torn);
}

/**
 * The record of all changes, one JSON line each, at the end of the file at
 * `path`. Each line has its number (`seq`) and the SHA-256 of the line before
 * (`prev`), so nothing can be changed, removed or moved unnoticed by whoever
 * knows the last line's hash. A line is written with one write(2) and survives
 * our end, but perhaps not a loss of power. A line that cannot be written does
 * not hold up what it records: `problem` says so, and a later line how many are lost.
 */
export function openAuditLog(path: string, { now, log, knownHead, exclusively }: AuditOptions) {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const { O_APPEND, O_CREAT, O_RDWR } = constants;
  const file = openFile(path, O_APPEND | O_CREAT | O_RDWR, 0o600);
  const { fd } = file;
  fchmodSync(fd, 0o600);
  let end = readEnd(fd, knownHead);
  let lost = 0;
  let isClosed = false;
  /** How many there were of each key in this minute; of those without a good one under "". */
  let refusals = { since: now(), counts: new Map<string, number>() };

  function append(event: AuditEvent): void {
    // Another agent may have written meanwhile, or we only a part of a line.
    if (fstatSync(fd).size !== end.size) end = readEnd(fd, end);
    let { seq, hash } = end;
    let text = "";
    const add = (entry: AuditEvent, prev = hash): void => {
      const line = JSON.stringify({
        seq: ++seq,
        time: new Date(now()).toISOString(),
        ...entry,
        prev,
      });
      hash = sha256(line);
      text += `${line}\n`;
    };
    if (end.torn) {
      text = "\n";
      add({ event: "recovered", outcome: "torn", torn_bytes: end.torn.length }, tornHash(hash, end.torn));
    }
    if (lost > 0) add({ event: "lost", outcome: "unwritten", count: lost });
    add(event);
    const bytes = Buffer.from(text);
    if (writeSync(fd, bytes) !== bytes.length) throw new Error("only a part of a line could be written");
    end = { size: end.size + bytes.length, seq, hash, torn: undefined };
    lost = 0;
  }

  function record(event: AuditEvent): void {
    // The descriptor's number may belong to another file by now.
    if (isClosed) return;
    try {
      exclusively(() => append(event));
    } catch (error) {
      if (lost++ === 0) {
        log({ level: "error", event: "audit_failed", error: String(error) });
      }
    }
  }

  /** Records how many refusals had no line of their own in the minute that is over. */
  function countRefusals(): void {
    if (Math.abs(now() - refusals.since) >= MINUTE_MS) endMinute();
  }

  function endMinute(): void {
    const counts = [...refusals.counts.values()];
    refusals = { since: now(), counts: new Map() };
    const count = counts.reduce((sum, each) => sum + Math.max(0, each - REFUSALS_PER_MINUTE), 0);
    if (count > 0) record({ event: "refused_more", outcome: "counted", count });
  }

  return {
    record,
    /**
     * Records a request that was refused; of many a minute only how many they were.
     * Each key has its own share: who floods without one hides nothing of another's.
     */
    recordRefusal(event: AuditEvent): void {
      countRefusals();
      const who = typeof event["key_name"] === "string" ? event["key_name"] : "";
      const count = (refusals.counts.get(who) ?? 0) + 1;
      refusals.counts.set(who, count);
      if (count <= REFUSALS_PER_MINUTE) record(event);
    },
    countRefusals,
    /** The last line that this agent knows. */
    head: (): AuditHead => ({ seq: end.seq, hash: end.hash }),
    /** What is wrong, in a sentence without paths; undefined when all is well. */
    problem: (): string | undefined => (lost > 0 ? "the audit log cannot be written" : undefined),
    close(): void {
      if (isClosed) return;
      endMinute();
      isClosed = true;
      file[Symbol.dispose]();
    },
  };
}

/** The end of the file: after `seq` and `hash` come the torn bytes, if there are any. */
interface End extends AuditHead {
  size: number;
  torn: Buffer | undefined;
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

/** The number of a line; undefined when somebody made it no entry of ours. */
function seqOf(line: Buffer): number | undefined {
  try {
    const { seq } = JSON.parse(line.toString()) as { seq?: unknown };
    return Number.isSafeInteger(seq) ? (seq as number) : undefined;
  } catch {
    return undefined;
  }
}
