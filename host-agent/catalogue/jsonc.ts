import { withoutByteOrderMark } from "../protocol/byte-order-mark.ts";
import { getNodeValue, type Node, type ParseError, parseTree, printParseErrorCode } from "jsonc-parser";

/** A parsed text, with the lines of its values. */
export interface JsoncTree {
  root: Node;
  /** The line of a value, from 1. */
  lineOf(node: Node): number;
}

const WORDS: Readonly<Record<string, string>> = {
  CommaExpected: "a comma is missing",
  ColonExpected: "a colon is missing",
  PropertyNameExpected: 'a field name in "double quotes" is missing',
  ValueExpected: "a value is missing",
  CloseBraceExpected: "a } is missing",
  CloseBracketExpected: "a ] is missing",
  EndOfFileExpected: "there is more text after the end",
  UnexpectedEndOfComment: "a comment has no end",
  UnexpectedEndOfString: "a string has no end on its line",
  UnexpectedEndOfNumber: "a number is not complete",
  InvalidEscapeCharacter: "a string has an escape that JSON does not have",
  InvalidUnicode: "a string has a bad \\u escape",
  InvalidCharacter: "a string has a control character",
};

/**
 * Reads JSON that may have comments, trailing commas and a byte order mark. Throws an Error whose message says what is
 * wrong in which line.
 */
export function parseJsonc(text: string): JsoncTree {
  const lineAt = (offset: number) => text.slice(0, offset).split("\n").length;
  if (withoutByteOrderMark(text).trim() === "") throw new Error("the file is empty");
  const errors: ParseError[] = [];
  let root: Node | undefined;
  try {
    // The mark is kept as a blank, so that no offset moves.
    root = parseTree(text.replace(/^\uFEFF/, " "), errors, { allowTrailingComma: true });
  } catch {
    throw new Error("its lists or objects are nested too deeply");
  }
  const [first] = errors;
  if (first) {
    const code = printParseErrorCode(first.error);
    throw new Error(`line ${lineAt(first.offset)}: ${WORDS[code] ?? "this is not JSON"}`);
  }
  if (!root) throw new Error("it has comments only");
  return { root, lineOf: (node) => lineAt(node.offset) };
}

/** The value of a node. Throws an Error for a name that an object has twice: JSON does not say which one counts. */
export function valueOf(node: Node): unknown {
  refuseRepeated(node);
  return getNodeValue(node);
}

function refuseRepeated(node: Node): void {
  const names = new Set<string>();
  for (const child of node.children ?? []) {
    if (child.type === "property") {
      const name = String(child.children?.[0]?.value);
      // As a name it would set the prototype of the value, and be seen by nobody.
      if (name === "__proto__") throw new Error("unknown field `__proto__`");
      if (names.has(name)) throw new Error(`field \`${name}\` is a duplicate`);
      names.add(name);
    }
    refuseRepeated(child);
  }
}
