import { execFileSync } from "node:child_process";

import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

import { ArgsError, splitArgs } from "../../../host-agent/catalogue/split-args.ts";
import { joinArgv } from "../../../host-agent/protocol/argv.ts";

describe("splitting args", () => {
  test("gives the words that /bin/sh gives, for every form of quoting", () => {
    fc.assert(
      fc.property(fc.array(shellText, { minLength: 40, maxLength: 60 }), (texts) => {
        expect(texts.map(splitArgs)).toEqual(wordsOfShell(texts));
      }),
      { numRuns: 25 },
    );
  });

  test("takes the special characters of a shell as ordinary ones", () => {
    const unquoted = fc.string({
      unit: oneOf(";|&$`*?[]{}()<>~#!=%^a1-é한😀\r\v\f"),
      minLength: 1,
    });
    fc.assert(
      fc.property(fc.array(unquoted), (words) => {
        expect(splitArgs(words.join(" "))).toEqual(words);
      }),
    );
  });

  test.for<[string, string[]]>([
    ["", []],
    [" \t\n ", []],
    ["a\nb\tc  d", ["a", "b", "c", "d"]],
    [`''`, [""]],
    [`a'' ""b '' ""`, ["a", "b", "", ""]],
    [`"$HOME" '$HOME' $HOME`, ["$HOME", "$HOME", "$HOME"]],
    [String.raw`"\$ \" \\ \a \'" '\$'`, [String.raw`$ " \ \a \'`, String.raw`\$`]],
    ["a\\\nb \\\n c", ["ab", "c"]],
    ["# no comment", ["#", "no", "comment"]],
    ["a\u00A0b\u2003c", ["a\u00A0b\u2003c"]],
  ])("%j is %j", ([text, words]) => {
    expect(splitArgs(text)).toEqual(words);
  });

  test.for<[string, RegExp]>([
    ["it's", /single quote at character 3 that is never closed/],
    ['say "hi', /double quote at character 5 that is never closed/],
    ['"\\"', /double quote at character 1 that is never closed/],
    ["a \\", /ends in a backslash/],
    ["a\0b", /NUL/],
    ["'\0'", /NUL/],
  ])("%j is refused", ([text, reason]) => {
    expect(() => splitArgs(text)).toThrow(ArgsError);
    expect(() => splitArgs(text)).toThrow(reason);
  });

  test("of the longest args is fast, whatever their characters", () => {
    for (const piece of ["a", "a ", "\\a", "''", '"\\""', " "]) {
      const text = piece.repeat(32_768 / piece.length);
      expect(splitArgs(text).join("").length).toBeLessThanOrEqual(text.length);
    }
  });
});

describe("joining an argv", () => {
  const argv = fc.array(fc.string({ unit: "grapheme" }).map((word) => word.replaceAll("\0", "")));

  test("makes a line that splits into the same words", () => {
    fc.assert(
      fc.property(argv, (words) => {
        expect(splitArgs(joinArgv(words))).toEqual(words);
      }),
    );
  });

  test("makes a line that /bin/sh takes for the same words", () => {
    const tricky = fc.array(fc.string({ unit: oneOf("'\"\\$`*?~#;&|<>(){}[]!= \t\nab-é😀") }));
    fc.assert(
      fc.property(fc.array(tricky, { minLength: 40, maxLength: 60 }), (argvs) => {
        expect(wordsOfShell(argvs.map(joinArgv))).toEqual(argvs);
      }),
      { numRuns: 20 },
    );
  });

  test("leaves plain words as they are", () => {
    expect(joinArgv(["python", "build_all.py", "--limit=5000", "-x", "a/b.c", "u@h:1,2+3%"])).toBe(
      "python build_all.py --limit=5000 -x a/b.c u@h:1,2+3%",
    );
  });
});

/** One of these characters. */
function oneOf(characters: string) {
  return fc.constantFrom(...Array.from(characters));
}

/** Words in every form of quoting, without what a shell would expand or act on. */
const shellText = fc
  .array(
    fc.oneof(
      fc.string({ unit: oneOf("abz019_./:,+@%=-^é한😀\r\v\f"), minLength: 1, maxLength: 4 }),
      oneOf(" \t"),
      oneOf("ab 'é\"\\$`*~#;&|<>(\t\n").map((char) => `\\${char}`),
      fc.string({ unit: oneOf('ab é😀"\\$`*~#;&|<>(\t\n'), maxLength: 6 }).map((text) => `'${text}'`),
      fc
        .array(
          fc.oneof(
            oneOf("ab é😀'*~#;&|<>(\t\n"),
            oneOf("ab é'\"\\$`*~\t\n").map((char) => `\\${char}`),
          ),
          { maxLength: 6 },
        )
        .map((parts) => `"${parts.join("")}"`),
    ),
    { maxLength: 12 },
  )
  .map((parts) => parts.join(""));

/** What the shell makes of each text as the arguments of a command, in one shell process. */
function wordsOfShell(texts: readonly string[]): string[][] {
  const script = ['show() { printf \'%s\\0\' "$#" "$@"; }', ...texts.map((text) => `show ${text}`)].join(
    "\n",
  );
  const output = execFileSync("/bin/sh", ["-c", script], { encoding: "utf8" }).split("\0");
  const words: string[][] = [];
  for (let at = 0; at < output.length - 1;) {
    const count = Number(output[at]);
    words.push(output.slice(at + 1, at + 1 + count));
    at += 1 + count;
  }
  return words;
}
