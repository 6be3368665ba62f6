import { expect, test } from "vitest";

import { printable, safeJson } from "../../../adapters/cli/printable.ts";
import { renderTable } from "../../../adapters/client/table.ts";
import { byteCount, duration } from "../../../adapters/client/units.ts";
import { spelledOut } from "../../../adapters/console/visible-text.ts";

const CODE_POINTS = Array.from({ length: 0xe_0100 }, (_, code) => code).filter(
  (code) => code < 0xd800 || code > 0xdfff,
);

/** The code points that `show` replaces; below U+000E both treat some as white space. */
function replacedBy(show: (text: string) => string): number[] {
  return CODE_POINTS.filter(
    (code) => code > 0x0d && show(String.fromCodePoint(code)) !== String.fromCodePoint(code),
  );
}

test("the command line and the console replace the same unsafe characters, and JSON escapes them", () => {
  const unsafe = replacedBy(printable);

  expect(replacedBy(spelledOut)).toEqual(unsafe);
  expect(unsafe.length).toBeGreaterThan(150);
  for (const code of unsafe) {
    const json = safeJson(String.fromCodePoint(code));
    expect(json).toMatch(/^"[\x20-\x7e]+"$/);
    expect(JSON.parse(json)).toBe(String.fromCodePoint(code));
  }
});

test.for([
  [0, "0 B"],
  [999, "999 B"],
  [1_000, "1.0 kB"],
  [34_149, "34.1 kB"],
  [1_200_000_000, "1.2 GB"],
  [5e15, "5000.0 TB"],
] as const)("%i bytes are shown as %s", ([bytes, shown]) => {
  expect(byteCount(bytes)).toBe(shown);
});

test.for([
  [-3, "0s"],
  [59.9, "59s"],
  [187, "3m07s"],
  [7_500, "2h05m"],
  [273_600, "3d04h"],
] as const)("%d seconds are shown as %s", ([seconds, shown]) => {
  expect(duration(seconds)).toBe(shown);
});

test("a table in a pipe is not cut, and one on a terminal is cut between whole characters", async () => {
  const rows = [["run_1", "👩‍👩‍👧".repeat(20), "plain"]];

  expect(await renderTable(["RUN", "NAME", "NOTE"], rows)).toBe(
    `RUN    ${"NAME".padEnd(42)}NOTE\nrun_1  ${"👩‍👩‍👧".repeat(20)}  plain\n`,
  );
  expect((await renderTable(["RUN", "NAME", "NOTE"], rows, 26)).split("\n")[1]).toBe(
    `run_1  ${"👩‍👩‍👧".repeat(5)}…   plain`,
  );
});
