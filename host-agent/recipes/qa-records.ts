import type { FileHandle } from "node:fs/promises";

import type { QaRecord } from "./lexical-features.ts";

/** A line of the input: a record, or what is wrong with it. */
export type QaLine = { number: number; record: QaRecord } | { number: number; fault: string };

/** A longer line is skipped, so that memory stays bounded whatever the file holds. */
export const MAX_LINE_BYTES = 8 * 1_048_576;
const READ_BYTES = 65_536;
const NEWLINE = 0x0a;

/**
 * The question/answer records of a JSONL file, line by line, in constant
 * memory. Blank lines are passed over; a line that holds no record comes with
 * its fault, which never quotes the line.
 */
export async function* readRecords(file: FileHandle): AsyncGenerator<QaLine> {
  let number = 0;
  for await (const line of readLines(file)) {
    number++;
    if (line === undefined) {
      yield { number, fault: `is longer than ${MAX_LINE_BYTES} bytes` };
      continue;
    }
    const parsed = parseLine(line);
    if (typeof parsed === "string") yield { number, fault: parsed };
    else if (parsed !== undefined) yield { number, record: parsed };
  }
}

/** The bytes of each line without its newline; undefined for one that is too long. */
async function* readLines(file: FileHandle): AsyncGenerator<Uint8Array | undefined> {
  let pieces: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of file.createReadStream({ highWaterMark: READ_BYTES, autoClose: false })) {
    const bytes = chunk as Uint8Array;
    let start = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
      take(bytes.subarray(start, end));
      yield line();
      pieces = [];
      length = 0;
      start = end + 1;
    }
    take(bytes.subarray(start));
  }
  if (length > 0) yield line();

  function take(piece: Uint8Array): void {
    length += piece.length;
    if (length > MAX_LINE_BYTES) pieces = [];
    else if (piece.length > 0) pieces.push(piece);
  }
  function line(): Uint8Array | undefined {
    return length > MAX_LINE_BYTES ? undefined : Buffer.concat(pieces);
  }
}

/** The record; a string that says what is wrong; undefined for a blank line. */
function parseLine(bytes: Uint8Array): QaRecord | string | undefined {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return "is not UTF-8";
  }
  if (text.trim() === "") return undefined;
  try {
    return toRecord(JSON.parse(text));
  } catch {
    return "is not JSON";
  }
}

/** Takes `{id, question, answer}` and the HaluEval form `{ID, user_query, chatgpt_response, …}`. */
function toRecord(value: unknown): QaRecord | string {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return "is not an object";
  const fields = value as Record<string, unknown>;
  const id = fields["id"] ?? fields["ID"];
  const question = fields["question"] ?? fields["user_query"];
  const answer = fields["answer"] ?? fields["chatgpt_response"];
  if (typeof id !== "string" && typeof id !== "number") return "has no id (or ID)";
  if (typeof question !== "string") return "has no question (or user_query)";
  if (typeof answer !== "string") return "has no answer (or chatgpt_response)";
  const { hallucination, hallucination_spans: spans } = fields;
  return {
    id: String(id),
    question,
    answer,
    label: typeof hallucination === "string" ? hallucination : null,
    marked_spans: Array.isArray(spans) ? spans.length : null,
  };
}
