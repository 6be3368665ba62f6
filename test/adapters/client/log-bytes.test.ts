import * as fc from "fast-check";
import { expect, test } from "vitest";

import { logPages, type ReadLog, readRange, tailOffset } from "../../../adapters/client/log-bytes.ts";

/** Reads a log as the API does, but never more than `largest` bytes at once. */
function reader(log: Uint8Array<ArrayBuffer>, largest: number): ReadLog {
  return async ({ after, maxBytes }) => {
    const bytes = log.slice(after, after + Math.min(maxBytes, largest));
    const offset = after + bytes.length;
    return { bytes, offset, size: log.length, more: offset < log.length };
  };
}

const anyLog = fc
  .array(fc.constantFrom("a", "line", "\n", "\n\n", "é"), { maxLength: 60 })
  .map((pieces) => new TextEncoder().encode(pieces.join("")));

test("the last n lines of a log are those of tail, for every size of page", async () => {
  await fc.assert(
    fc.asyncProperty(anyLog, fc.nat(8), fc.integer({ min: 1, max: 9 }), async (log, lines, largest) => {
      const text = new TextDecoder().decode(log);
      const all = text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
      const offset = await tailOffset(reader(log, largest), lines);

      expect(new TextDecoder().decode(log.subarray(offset))).toBe(
        lines === 0 ? "" : all.slice(-lines).join(""),
      );
    }),
  );
});

test("a range of a log is read in as many pages as it takes, and ends with the log", async () => {
  const log = new TextEncoder().encode("0123456789");

  expect(new TextDecoder().decode(await readRange(reader(log, 3), 2, 9))).toBe("2345678");
  expect(new TextDecoder().decode(await readRange(reader(log, 3), 8, 99))).toBe("89");
});

test("the pages of a log end when a page that announces more has no bytes", async () => {
  let reads = 0;
  const read: ReadLog = async ({ after }) => {
    reads++;
    return { bytes: new Uint8Array(), offset: after, size: 1, more: true };
  };

  for await (const page of logPages(read, 0)) expect(page.bytes).toHaveLength(0);

  expect(reads).toBe(1);
});
