import { writeSync } from "node:fs";

import { type Log, type LogEntry, logLine } from "./log-line.ts";

/** A log that writes to a file descriptor. */
export interface Logger {
  log: Log;
  /** Writes all lines that wait. Waits at most MAX_FLUSH_MS for a reader of a full pipe; call it before the process ends. */
  flush(): void;
}

/** Lines that nobody reads are kept up to this size; the later ones are counted. */
const MAX_PENDING_BYTES = 1_048_576;
const RETRY_INTERVAL_MS = 50;
const MAX_FLUSH_MS = 1_000;

/**
 * Writes one JSON line for each entry to a file descriptor, and the lines of one
 * turn of the event loop with one write(2). A full pipe does not block the
 * caller: its lines wait, at most MAX_PENDING_BYTES of them, and a line
 * `log_lines_lost` reports how many did not fit. A closed pipe or terminal takes none.
 */
export function openLogger(fd: number): Logger {
  /** Lines that no write has begun with. */
  let lines = "";
  /** What the last write(2) left of its lines. */
  let rest: Uint8Array = new Uint8Array();
  let lost = 0;
  let isScheduled = false;

  function log(entry: LogEntry): void {
    if (rest.length + lines.length > MAX_PENDING_BYTES) lost++;
    else lines += `${logLine(entry)}\n`;
    schedule();
  }

  function schedule(): void {
    if (isScheduled) return;
    isScheduled = true;
    if (rest.length === 0) setImmediate(writeScheduled);
    else setTimeout(writeScheduled, RETRY_INTERVAL_MS).unref();
  }

  function writeScheduled(): void {
    isScheduled = false;
    if (!write()) schedule();
  }

  /** True when nothing waits any more. */
  function write(): boolean {
    if (rest.length > 0) rest = unwritten(fd, rest);
    if (rest.length > 0) return false;
    if (lost > 0) lines += `${logLine({ level: "warn", event: "log_lines_lost", count: lost })}\n`;
    lost = 0;
    if (lines !== "") rest = unwritten(fd, Buffer.from(lines));
    lines = "";
    return rest.length === 0;
  }

  return {
    log,
    flush() {
      const deadline = performance.now() + MAX_FLUSH_MS;
      while (!write() && performance.now() < deadline) sleep(RETRY_INTERVAL_MS);
    },
  };
}

/** Writes what the descriptor takes now, and returns what is left; nothing when it is broken. */
function unwritten(fd: number, bytes: Uint8Array): Uint8Array {
  try {
    return bytes.subarray(writeSync(fd, bytes));
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EAGAIN" ? bytes : new Uint8Array();
  }
}

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
