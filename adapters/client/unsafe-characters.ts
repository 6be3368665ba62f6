/**
 * Characters that act on a terminal or a page instead of being shown, as the inside of a
 * regular expression's class with the flag `u`: controls but tab and line feed, line and
 * paragraph separators, marks that change the direction of text, and marks that are invisible.
 * The joiners U+200C and U+200D are not among them: emoji and several scripts need them.
 */
export const UNSAFE_CHARACTERS = [
  String.raw`\x00-\x08\x0b-\x1f\x7f-\x9f`,
  String.raw`\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069`,
  String.raw`\xad\u180e\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}`,
].join("");

/** `U+202E`. */
export function codePointName(char: string): string {
  return `U+${char.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}`;
}
