import * as fc from "fast-check";
import { expect, test } from "vitest";

import {
  LogWindow,
  MAX_LINE_BYTES,
  MAX_LINES,
  MAX_WINDOW_BYTES,
} from "../../../adapters/console/log-window.ts";
import { visibleText } from "../../../adapters/console/visible-text.ts";

const encode = (text: string) => new TextEncoder().encode(text);

test("a log window has the same lines for every way to cut the log into pages", () => {
  const piece = fc.constantFrom(
    "plain",
    "é한😀",
    "\n",
    "\r\n",
    "\r",
    "\x1b[31m",
    "x".repeat(3_000),
    "\u202e",
  );
  const log = fc.array(piece, { maxLength: 30 }).map((pieces) => encode(pieces.join("")));
  fc.assert(
    fc.property(log, fc.array(fc.nat(), { maxLength: 8 }), (bytes, cuts) => {
      const whole = new LogWindow(0);
      whole.append(bytes);
      const paged = new LogWindow(0);
      const places = [
        0,
        ...cuts.map((cut) => cut % (bytes.length + 1)).toSorted((a, b) => a - b),
        bytes.length,
      ];
      for (let i = 1; i < places.length; i++) paged.append(bytes.slice(places[i - 1], places[i]));

      expect(paged.lines.map(({ start, end, text }) => ({ start, end, text }))).toEqual(
        whole.lines.map(({ start, end, text }) => ({ start, end, text })),
      );
      expect(paged.end).toBe(bytes.length);
    }),
    { numRuns: 300 },
  );
});

test("a log window keeps its limits of lines and bytes at both ends, without a gap", () => {
  const short = encode("y\n".repeat(60_000));
  const long = encode(`${"x".repeat(5_000)}\n`.repeat(400));
  for (const bytes of [short, long]) {
    const window = new LogWindow(5_000_000);
    window.fill(bytes, 5_000_000 + 50_000);
    for (const grow of [
      () => window.append(bytes),
      () => window.append(bytes, "nearest"),
      () => window.prepend(bytes),
    ]) {
      grow();
      expect(window.lines.length).toBeLessThanOrEqual(MAX_LINES);
      expect(window.end - window.start).toBeLessThanOrEqual(MAX_WINDOW_BYTES);
      expect(window.lines.every((line, i, all) => i === 0 || all[i - 1]!.end === line.start)).toBe(true);
      expect(window.lines.every(({ start, end }) => end - start <= MAX_LINE_BYTES + 2)).toBe(true);
    }
  }
});

test("a log window that grows keeps the lines next to those that are shown", () => {
  const window = new LogWindow(1_000_000);
  window.append(encode("here\n"));
  window.prepend(encode("a\n".repeat(50_000)));
  expect(window.lines.at(-1)!.text).toBe("here");
  expect(window.lines.at(-2)!.end).toBe(1_000_000);

  window.append(encode("b\n".repeat(50_000)), "nearest");
  expect(window.end).toBeLessThan(1_000_005 + 50_000);
});

test.for([
  ["\x1b[31mred\x1b[0m plain", ["fg1:red", ": plain"]],
  ["\x1b[1;38;5;196mhot\x1b[22;39m x", ["fg9 bold:hot", ": x"]],
  ["\x1b[38;2;0;200;0mgreen\x1b[m.", ["fg2:green", ":."]],
  ["\x1b[30;40mhidden\x1b[0m", ["bg0:hidden"]],
  ["\x1b[8mconcealed", [":concealed"]],
  ["\x1b[Kerased", [":erased"]],
  ["a\x1b[2Jb\x07", [":a", "control:␛[2J", ":b", "control:␇"]],
  ["\u200bzero\u2066", ["control:⟨U+200B⟩", ":zero", "control:⟨U+2066⟩"]],
  ["\x9b31m\x85", ["control:⟨U+009B⟩", ":31m", "control:⟨U+0085⟩"]],
  ["tab\tstays 👩‍👩‍👧 too", [":tab\tstays 👩‍👩‍👧 too"]],
] as [string, string[]][])("the log line %j is shown as %j", ([text, expected]) => {
  const { segments } = visibleText(text, {});
  expect(segments.map(({ look, text: shown }) => `${look}:${shown}`)).toEqual(expected);
});
