import { codePointName, UNSAFE_CHARACTERS } from "../client/unsafe-characters.ts";

const UNSAFE = new RegExp(`[${UNSAFE_CHARACTERS}]`, "gu");
const ESCAPE = "\u001b";
/** Select Graphic Rendition (ECMA-48, 8.3.117): colours and weight, which move nothing. */
const SGR = new RegExp(`${ESCAPE}\\[[0-9;:]{0,64}m`, "g");
/** What may become an SGR sequence with the next bytes. */
const SGR_BEGINNING = new RegExp(`${ESCAPE}(?:\\[[0-9;:]{0,64})?$`);

/** Text on one line, in which every character that a terminal would act on is made visible. */
export function printable(text: string): string {
  return text.replaceAll(/[\t\n\r]+/g, " ").replaceAll(UNSAFE, visible);
}

/** Text of several lines, in which every character that a terminal would act on is made visible. */
export function printableLines(text: string): string {
  return text.replaceAll("\r\n", "\n").replaceAll(UNSAFE, visible);
}

/**
 * Turns a log's bytes into text for a terminal, piece by piece: colours pass,
 * so do carriage returns of progress bars; every other control is made
 * visible. A character or sequence cut by the end of a piece waits for the next.
 */
export function terminalFilter() {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let held = "";
  let coloured = false;

  function filter(text: string): string {
    let safe = "";
    let from = 0;
    for (const { 0: sequence, index } of text.matchAll(SGR)) {
      safe += neutralise(text.slice(from, index)) + sequence;
      from = index + sequence.length;
      coloured = true;
    }
    return safe + neutralise(text.slice(from));
  }

  return {
    push(bytes: Uint8Array): string {
      const text = held + decoder.decode(bytes, { stream: true });
      held = SGR_BEGINNING.exec(text)?.[0] ?? "";
      return filter(text.slice(0, text.length - held.length));
    },
    /** The rest of the text, and the end of the colours. */
    end(): string {
      const rest = filter(held + decoder.decode());
      held = "";
      return coloured ? `${rest}${ESCAPE}[0m` : rest;
    },
  };
}

function neutralise(text: string): string {
  return text.replaceAll(UNSAFE, (char) => (char === "\r" ? char : visible(char)));
}

/** `^[` for C0 and DEL, as cat -v writes them, and `<U+202E>` for others. */
function visible(char: string): string {
  const code = char.charCodeAt(0);
  if (code === 0x7f) return "^?";
  if (code < 0x20) return `^${String.fromCharCode(code + 0x40)}`;
  return `<${codePointName(char)}>`;
}

/** JSON that is also safe to show: the unsafe characters that JSON.stringify leaves are escaped. */
export function safeJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent).replaceAll(UNSAFE, escaped);
}

/** `\u202e`; a character outside the first plane is a pair. */
function escaped(char: string): string {
  const units = Array.from({ length: char.length }, (_, i) => char.charCodeAt(i));
  return units.map((unit) => `\\u${unit.toString(16).padStart(4, "0")}`).join("");
}
