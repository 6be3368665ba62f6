import { expect, test } from "vitest";

import { findInLog, type ReadBytes } from "../../../adapters/console/find-in-log.ts";
import { MAX_LOG_PAGE_BYTES } from "../../../host-agent/protocol/limits.ts";

const NEEDLE = "the Needle";

/** Three pages of dots, with the needle where it is wanted. */
function logWith(places: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(3 * MAX_LOG_PAGE_BYTES).fill(46);
  for (const place of places) bytes.set(new TextEncoder().encode(NEEDLE), place);
  return bytes;
}

function find(log: Uint8Array, needle: string, from: number, backwards: boolean) {
  // As the API does: at most one page, whatever is asked for.
  const read: ReadBytes = async (after, maxBytes) => {
    const bytes = log.subarray(after, after + Math.min(maxBytes, MAX_LOG_PAGE_BYTES));
    const offset = after + bytes.length;
    return { bytes, offset, more: offset < log.length };
  };
  const { signal } = new AbortController();
  return findInLog(read, needle, { from, backwards, onProgress() {}, signal });
}

test("the log search finds a match across the edge of a page in both directions", async () => {
  for (const edge of [MAX_LOG_PAGE_BYTES, 2 * MAX_LOG_PAGE_BYTES]) {
    for (let at = edge - 15; at < edge + 30; at++) {
      const log = logWith([at]);
      expect(await find(log, "THE needle", 0, false)).toBe(at);
      expect(await find(log, "THE needle", log.length, true)).toBe(at);
    }
  }
});

test("the log search finds the nearest match in each direction, or none", async () => {
  const log = logWith([100, 2_000_000, 3_000_000]);

  expect(await find(log, NEEDLE, 101, false)).toBe(2_000_000);
  expect(await find(log, NEEDLE, 3_000_000, true)).toBe(2_000_000);
  expect(await find(log, NEEDLE, 100, true)).toBeUndefined();
  expect(await find(log, NEEDLE, 3_000_001, false)).toBeUndefined();
  expect(await find(log, "", 0, false)).toBeUndefined();
});
