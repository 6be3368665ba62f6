import { codePointName, UNSAFE_CHARACTERS } from "../client/unsafe-characters.ts";

/** How a piece of a line looks: classes of style.css, from the 16 colours of a terminal and its attributes. */
export interface TextStyle {
  fg?: number | undefined;
  bg?: number | undefined;
  bold?: boolean | undefined;
  dim?: boolean | undefined;
  italic?: boolean | undefined;
  underline?: boolean | undefined;
  strike?: boolean | undefined;
  inverse?: boolean | undefined;
}

/** A piece of a line in one look. */
export interface Segment {
  text: string;
  /** CSS classes; "" for plain text, `control` for characters that are not text. */
  look: string;
}

export const PLAIN: TextStyle = {};

/** An SGR sequence with its parameters, a sequence that may be left out, another sequence, or an unsafe character. */
const SPECIAL = new RegExp(
  [
    String.raw`\x1b\[([0-9;:]*)m`,
    String.raw`(\x1b\[(?:[0-2]?K|\?25[lh]))`,
    String.raw`\x1b\[[0-?]*[ -/]*[@-~]`,
    `[${UNSAFE_CHARACTERS}]`,
  ].join("|"),
  "gu",
);

/**
 * Makes a line of a log safe and readable: colours become classes, erasing to the end
 * of the line is dropped, every other control is shown as text.
 * Returns the style that the next line starts with.
 */
export function visibleText(text: string, style: TextStyle): { segments: Segment[]; style: TextStyle } {
  const segments: Segment[] = [];
  let current = style;
  let shownTo = 0;
  for (const match of text.matchAll(SPECIAL)) {
    if (match.index > shownTo)
      segments.push({ text: text.slice(shownTo, match.index), look: lookOf(current) });
    shownTo = match.index + match[0].length;
    if (match[1] !== undefined) current = restyle(current, match[1]);
    else if (match[2] === undefined) {
      segments.push({ text: spellOut(match[0]), look: "control" });
    }
  }
  if (shownTo < text.length) segments.push({ text: text.slice(shownTo), look: lookOf(current) });
  return { segments, style: current };
}

/** Text without colours, in which every unsafe character is shown. */
export function spelledOut(text: string): string {
  return text.replaceAll(SPECIAL, spellOut);
}

/** `␛[2J` for a sequence, `␀` for a control character, `⟨U+202E⟩` for a mark. */
function spellOut(control: string): string {
  const code = control.codePointAt(0)!;
  if (code === 0x1b) return `␛${control.slice(1)}`;
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (code === 0x7f) return "␡";
  return `⟨${codePointName(control)}⟩`;
}

function lookOf({ fg, bg, bold, dim, italic, underline, strike, inverse }: TextStyle): string {
  const [front, back] = inverse ? [bg, fg ?? 7] : [fg, bg];
  return [
    // On a coloured background, the style sheet sets the text's colour, for contrast.
    back === undefined ? front !== undefined && `fg${front}` : `bg${back}`,
    bold && "bold",
    dim && "dim",
    italic && "italic",
    underline && "underline",
    strike && "strike",
  ]
    .filter(Boolean)
    .join(" ");
}

/** The style after an SGR sequence (ECMA-48, 8.3.117) with these parameters. */
function restyle(before: TextStyle, parameters: string): TextStyle {
  const codes = parameters.split(/[;:]/).map(Number);
  let style = { ...before };
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i]!;
    if (code === 0) style = {};
    else if (code === 1) style.bold = true;
    else if (code === 2) style.dim = true;
    else if (code === 3) style.italic = true;
    else if (code === 4) style.underline = true;
    else if (code === 7) style.inverse = true;
    else if (code === 9) style.strike = true;
    else if (code === 22) style.bold = style.dim = undefined;
    else if (code === 23) style.italic = undefined;
    else if (code === 24) style.underline = undefined;
    else if (code === 27) style.inverse = undefined;
    else if (code === 29) style.strike = undefined;
    else if (code >= 30 && code <= 37) style.fg = code - 30;
    else if (code >= 40 && code <= 47) style.bg = code - 40;
    else if (code >= 90 && code <= 97) style.fg = code - 82;
    else if (code >= 100 && code <= 107) style.bg = code - 92;
    else if (code === 39) style.fg = undefined;
    else if (code === 49) style.bg = undefined;
    else if (code === 38 || code === 48) {
      const isIndexed = codes[i + 1] === 5;
      const colour = isIndexed ? nearestOfPalette(codes[i + 2] ?? 7) : nearest(codes.slice(i + 2, i + 5));
      i += isIndexed ? 2 : 4;
      if (code === 38) style.fg = colour;
      else style.bg = colour;
    }
  }
  return style;
}

/** One of the 16 colours, which both themes make readable, for one of the 256. */
function nearestOfPalette(index: number): number {
  if (index < 16) return index;
  if (index >= 232) return nearest([(index - 232) * 10 + 8, (index - 232) * 10 + 8, (index - 232) * 10 + 8]);
  const cube = index - 16;
  return nearest([level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6)]);
}

function level(n: number): number {
  return n === 0 ? 0 : n * 40 + 55;
}

function nearest([red = 0, green = 0, blue = 0]: number[]): number {
  const top = Math.max(red, green, blue);
  if (top - Math.min(red, green, blue) < 40) return top < 64 ? 0 : top < 150 ? 8 : top < 220 ? 7 : 15;
  const on = (value: number) => (value > top / 2 ? 1 : 0);
  return (on(red) | (on(green) << 1) | (on(blue) << 2)) + (top > 200 ? 8 : 0);
}
