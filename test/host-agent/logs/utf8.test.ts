// oxlint-disable vitest/no-conditional-expect, vitest/no-standalone-expect, no-await-in-loop -- a property has its cases
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import * as fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";

import { readPage } from "../../../host-agent/logs/log-file.ts";
import { logEndMark } from "../../../host-agent/logs/log-limit.ts";
import { endOfPage, MAX_CHARACTER_BYTES } from "../../../host-agent/logs/utf8.ts";

/** Text, broken text, and the bytes at the borders of the rules (RFC 3629, section 4). */
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

const anyBytes = fc.uint8Array({ maxLength: 40 });
const LARGEST_PAGE = 64;

const dir = mkdtempSync(join(tmpdir(), "pages-"));
const path = join(dir, "log");
afterAll(() => rmSync(dir, { recursive: true }));

const decode = (bytes: Uint8Array) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);

describe("log pages of any size", () => {
  test("add up to the log from any start, make progress, and split no character", async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(logBytes, anyBytes), fc.nat(30), async (log, limit) => {
        writeFileSync(path, log);
        const cut = Buffer.concat([log.subarray(0, limit), logEndMark(limit)]);
        await expectPages(log, { growing: false });
        await expectPages(log, { growing: true });
        await expectPages(log.length > limit ? cut : log, { growing: false, limit });
      }),
      { numRuns: 40, interruptAfterTimeLimit: 3_000 },
    );
  });

  test("of a growing log hold back only a character that may still be completed", () => {
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

type Page = Awaited<ReturnType<typeof readPage>>;

/** Reads `shown`, which is what the log at `path` is to be, by every page size from every start. */
async function expectPages(shown: Uint8Array, how: { growing: boolean; limit?: number }): Promise<void> {
  const characters = charactersOf(shown);
  for (let maxBytes = 1; maxBytes <= LARGEST_PAGE; maxBytes++) {
    const pages: Page[] = [];
    for (let after = 0; after <= shown.length; after++) {
      const page = await readPage(path, { after, maxBytes, ...how });
      const fault = faultOf(page, shown, { after, maxBytes, growing: how.growing, characters });
      // Asked so often that saying what was asked would take longer than the asking.
      if (fault)
        expect.unreachable(`${fault}: ${maxBytes} bytes after ${after} of ${JSON.stringify([...shown])}`);
      pages.push(page);
    }
    const texts = [];
    let at = 0;
    for (; pages[at]!.bytes.length > 0; at = pages[at]!.offset) texts.push(decode(pages[at]!.bytes));
    expect(texts.join("")).toBe(decode(shown.subarray(0, at)));
  }
}

interface Asked {
  after: number;
  maxBytes: number;
  growing: boolean;
  characters: [number, number][];
}

/** What is wrong with one page of `shown`; undefined when nothing is. */
function faultOf({ bytes, offset, size }: Page, shown: Uint8Array, asked: Asked): string | undefined {
  const { after, maxBytes, growing, characters } = asked;
  const end = after + bytes.length;
  if (offset !== end || size !== shown.length) return "its offset or size is wrong";
  if (Buffer.compare(bytes, shown.subarray(after, end)) !== 0) return "its bytes are others";
  if (characters.some(([from, to]) => from >= after && from < end && to > end))
    return "it splits a character";
  if (bytes.length > maxBytes && !/^.$/su.test(decode(bytes))) return "it is too long";
  const isEnd = end === shown.length || (growing && isUnfinished(shown.subarray(end)));
  if (bytes.length === 0 && !isEnd) return "it goes on nowhere";
  return undefined;
}

/** From where to where each character of more than one byte goes: such never overlap, whatever stands around them. */
function charactersOf(bytes: Uint8Array): [number, number][] {
  const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const found: [number, number][] = [];
  for (let from = 0; from < bytes.length; from++) {
    for (let to = from + 2; to <= Math.min(from + MAX_CHARACTER_BYTES, bytes.length); to++) {
      try {
        if (/^.$/su.test(strict.decode(bytes.subarray(from, to)))) found.push([from, to]);
      } catch {
        // No character.
      }
    }
  }
  return found;
}

/** True of nothing, and of the beginning of a character: a decoder in the middle of a stream holds it back, too. */
function isUnfinished(bytes: Uint8Array): boolean {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes, { stream: true }) === "";
}
