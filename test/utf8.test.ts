import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

import { endOfPage, MAX_CHARACTER_BYTES } from "../host-agent/utf8.ts";

/** Text, broken text, and the bytes that stand at the borders of the rules (RFC 3629, section 4). */
const logBytes = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        ...["é", "한", "😀", "\ufeff", "\0", "\u{10ffff}", "\ue000", "\ufffd"].map((c) =>
          new TextEncoder().encode(c),
        ),
      ),
      fc
        .constantFrom(
          0x41,
          0x80,
          0xbf,
          0xc0,
          0xc2,
          0xe0,
          0xa0,
          0x9f,
          0xed,
          0xf0,
          0x90,
          0x8f,
          0xf4,
          0xf5,
          0xff,
        )
        .map((b) => Uint8Array.of(b)),
      fc.uint8Array({ maxLength: 6 }),
    ),
    { maxLength: 12 },
  )
  .map((pieces) => Uint8Array.from(pieces.flatMap((piece) => [...piece])));

const decode = (bytes: Uint8Array) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);

describe("pages of any size", () => {
  test("decode, one by one, to what the whole decodes to", () => {
    fc.assert(
      fc.property(logBytes, (log) => {
        for (let limit = 1; limit <= log.length + 1; limit++) {
          expect(pages(log, limit).map(decode).join(""), `by ${limit}`).toBe(decode(log));
        }
      }),
      { numRuns: 1_000 },
    );
  });

  test("hold at least one byte and at most the limit, or one character", () => {
    fc.assert(
      fc.property(logBytes, fc.integer({ min: 1, max: 40 }), (log, limit) => {
        for (const page of pages(log, limit)) {
          expect(page.length).toBeGreaterThan(0);
          expect(page.length <= limit || /^.$/su.test(decode(page))).toBe(true);
        }
      }),
    );
  });

  test("of a log that grows leave out only a character that may still become whole", () => {
    fc.assert(
      fc.property(logBytes, logBytes, (first, rest) => {
        const whole = Uint8Array.from([...first, ...rest]);
        const end = endOfPage(first, first.length);
        expect(first.length - end).toBeLessThan(MAX_CHARACTER_BYTES);
        expect(decode(whole.subarray(0, end)) + decode(whole.subarray(end))).toBe(decode(whole));
        // What was left out is the beginning of a character: a decoder in the middle of a stream holds it back, too.
        expect(decode(first.subarray(0, end))).toBe(
          new TextDecoder("utf-8", { ignoreBOM: true }).decode(first, { stream: true }),
        );
      }),
      { numRuns: 1_000 },
    );
  });
});

/** The pages of a log that has ended, each cut from the few bytes around the limit as a reader sees them. */
function pages(log: Uint8Array, limit: number): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (let after = 0; after < log.length;) {
    const bytes = log.subarray(after, after + limit + MAX_CHARACTER_BYTES - 1);
    const end = endOfPage(bytes, limit);
    const isLast = after + bytes.length >= log.length && (end === 0 || bytes.length <= limit);
    const page = bytes.subarray(0, isLast ? bytes.length : end);
    if (page.length === 0) throw new Error(`no progress after ${after} by ${limit}`);
    found.push(page);
    after += page.length;
  }
  return found;
}
