import { PLAIN, type Segment, type TextStyle, visibleText } from "./visible-text.ts";

/** A line as it is shown: the bytes `start` to `end` of the log. */
export interface LogLine {
  start: number;
  end: number;
  text: string;
  segments: Segment[];
  /** The style that the next line starts with. */
  style: TextStyle;
  /** True until the line's end has been read: bytes that follow belong to it. */
  isOpen: boolean;
  /** Why the line ends without a line feed. */
  note?: "return" | "cut";
}

/** A longer line is shown in pieces of this many bytes. */
export const MAX_LINE_BYTES = 2_048;
/** The most lines of a log that are kept, and so drawn. */
export const MAX_LINES = 2_000;
export const MAX_WINDOW_BYTES = 1_000_000;

const LF = 10;
const CR = 13;

/** A window of lines on a log, by byte offset: it grows at one end and drops lines at the other. */
export class LogWindow {
  lines: LogLine[] = [];
  readonly #at: number;
  #open = new Uint8Array();

  /** An empty window at a byte. */
  constructor(at: number) {
    this.#at = at;
  }

  /** Another window with the same lines, to change while this one is shown. */
  copy(): LogWindow {
    const other = new LogWindow(this.#at);
    other.lines = this.lines;
    other.#open = this.#open;
    return other;
  }

  get start(): number {
    return this.lines[0]?.start ?? this.#at;
  }

  get end(): number {
    return this.lines.at(-1)?.end ?? this.#at;
  }

  /**
   * Adds bytes that follow the window and drops its first lines. `keep` decides which
   * lines stay when there are too many: the newest ones, to follow a log, or those next
   * to the window, to read on.
   */
  append(bytes: Uint8Array, keep: "newest" | "nearest" = "newest"): void {
    const last = this.lines.at(-1);
    const older = last?.isOpen ? this.lines.slice(0, -1) : this.lines;
    const pending = last?.isOpen ? joined(this.#open, bytes) : bytes;
    const from = last?.isOpen ? last.start : this.end;
    const newer = splitLines(pending, from, older.at(-1)?.style ?? PLAIN);
    const taken = keep === "newest" ? newer : newer.slice(0, MAX_LINES / 2);
    const lines = [...older, ...taken];
    this.#keepOpen(lines, pending, from);
    this.lines = lines.slice(firstKept(lines));
  }

  /** Adds bytes that precede the window, up to its limits, and drops its last lines. */
  prepend(bytes: Uint8Array): void {
    const older = splitLines(bytes, this.start - bytes.length, PLAIN).slice(-MAX_LINES / 2);
    const last = older.at(-1);
    if (last) last.isOpen = false;
    const lines = [...older, ...this.lines];
    this.lines = lines.slice(0, lastKept(lines));
  }

  /** Fills an empty window with the bytes at its place: as many lines around the byte `centre` as its limits allow. */
  fill(bytes: Uint8Array, centre: number): void {
    const lines = splitLines(bytes, this.#at, PLAIN);
    const middle = lines.findLastIndex((line) => line.start <= centre);
    const first = Math.max(0, Math.min(middle - MAX_LINES / 2, lines.length - MAX_LINES));
    const kept = lines.slice(first, first + MAX_LINES);
    this.#keepOpen(kept, bytes, this.#at);
    this.lines = kept;
  }

  #keepOpen(lines: LogLine[], bytes: Uint8Array, from: number): void {
    const last = lines.at(-1);
    this.#open = last?.isOpen ? bytes.slice(last.start - from) : new Uint8Array();
  }

  /** Drops what precedes the first line feed: after a jump into the middle of a log it is part of a line. */
  dropPartialLine(): void {
    if (this.start > 0 && this.lines.length > 1) this.lines = this.lines.slice(1);
  }
}

function splitLines(bytes: Uint8Array, from: number, styleBefore: TextStyle): LogLine[] {
  const lines: LogLine[] = [];
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let style = styleBefore;
  let at = 0;
  while (at < bytes.length) {
    const { text: textEnd, next, note, isOpen } = endOfLine(bytes, at);
    const text = decoder.decode(bytes.subarray(at, textEnd));
    const visible = visibleText(text, style);
    style = visible.style;
    lines.push({
      start: from + at,
      end: from + next,
      text,
      segments: visible.segments,
      style,
      isOpen,
      ...(note && { note }),
    });
    at = next;
  }
  return lines;
}

interface LineEnd {
  /** Where the text ends, and where the next line starts. */
  text: number;
  next: number;
  note?: "return" | "cut";
  isOpen: boolean;
}

function endOfLine(bytes: Uint8Array, from: number): LineEnd {
  const limit = Math.min(bytes.length, from + MAX_LINE_BYTES);
  for (let i = from; i < limit; i++) {
    if (bytes[i] === LF) return { text: i, next: i + 1, isOpen: false };
    if (bytes[i] !== CR) continue;
    if (i + 1 === bytes.length) return { text: i, next: i + 1, isOpen: true };
    if (bytes[i + 1] === LF) return { text: i, next: i + 2, isOpen: false };
    // A progress bar overwrites itself on a terminal; here each of its states is a line.
    return { text: i, next: i + 1, note: "return", isOpen: false };
  }
  if (limit === bytes.length) return { text: limit, next: limit, isOpen: true };
  let cut = limit;
  while (cut > limit - 3 && (bytes[cut]! & 0xc0) === 0x80) cut--;
  if ((bytes[cut]! & 0xc0) === 0x80) cut = limit;
  return { text: cut, next: cut, note: "cut", isOpen: false };
}

function firstKept(lines: LogLine[]): number {
  const end = lines.at(-1)?.end ?? 0;
  let first = Math.max(0, lines.length - MAX_LINES);
  while (first < lines.length - 1 && end - lines[first]!.start > MAX_WINDOW_BYTES) first++;
  return first;
}

function lastKept(lines: LogLine[]): number {
  const start = lines[0]?.start ?? 0;
  let count = Math.min(lines.length, MAX_LINES);
  while (count > 1 && lines[count - 1]!.end - start > MAX_WINDOW_BYTES) count--;
  return count;
}

/** The bytes of both in one array. */
function joined(first: Uint8Array, second: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}
