/** `args` cannot be split into words: the message says why, and is safe to show. */
export class ArgsError extends Error {
  override readonly name = "ArgsError";
}

const BLANK = /[ \t\n]/;

/**
 * Splits a string into words by the quoting rules of the POSIX shell (XCU 2.2:
 * backslash, single quotes, double quotes) and by nothing else: no variables,
 * globs, substitutions, comments or operators, so `;`, `|`, `$` and `*` are
 * ordinary characters. Throws ArgsError on an unbalanced quote, a trailing
 * backslash or a NUL.
 */
export function splitArgs(text: string): string[] {
  if (text.includes("\0")) throw new ArgsError("must not contain a NUL character");
  const words: string[] = [];
  let word: string | undefined;
  let i = 0;

  while (i < text.length) {
    const char = text[i++]!;
    if (char === "'") {
      const end = text.indexOf("'", i);
      if (end < 0) throw new ArgsError(`has a single quote at character ${i} that is never closed`);
      word = (word ?? "") + text.slice(i, end);
      i = end + 1;
    } else if (char === '"') {
      const [quoted, end] = readDoubleQuoted(text, i);
      word = (word ?? "") + quoted;
      i = end;
    } else if (char === "\\") {
      if (i === text.length) throw new ArgsError("ends in a backslash that escapes nothing");
      const escaped = text[i++]!;
      // A backslash and a newline are a line continuation: both vanish.
      if (escaped !== "\n") word = (word ?? "") + escaped;
    } else if (BLANK.test(char)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else {
      word = (word ?? "") + char;
    }
  }
  if (word !== undefined) words.push(word);
  return words;
}

/** Reads from just after an opening double quote; returns the text and the index after the closing one. */
function readDoubleQuoted(text: string, start: number): [string, number] {
  let quoted = "";
  for (let i = start; i < text.length; i++) {
    const char = text[i]!;
    if (char === '"') return [quoted, i + 1];
    const next = text[i + 1];
    if (char === "\\" && next !== undefined && '$`"\\\n'.includes(next)) {
      if (next !== "\n") quoted += next;
      i++;
    } else {
      quoted += char;
    }
  }
  throw new ArgsError(`has a double quote at character ${start} that is never closed`);
}
