/** How much of a program the kernel reads to find its interpreter (BINPRM_BUF_SIZE in binfmts.h). */
export const SHEBANG_BYTES = 256;

/** What the first line of a program says about how to run it. */
export interface FirstLine {
  /** The interpreter that the kernel would start, and its one argument; undefined when it would start none. */
  interpreter: readonly [path: string, argument?: string] | undefined;
  /** Why the program cannot run, in words that fit behind its name; undefined when it can. */
  fault: string | undefined;
}

const WINDOWS =
  "has Windows line endings: its lines end in CR LF, and Linux takes the CR for a part of the command; convert it, as by sed -i 's/\\r$//'";

/**
 * Reads the first bytes of a program as load_script() of Linux does (fs/binfmt_script.c): blanks around the interpreter, and
 * everything behind it as one argument. Give it at least SHEBANG_BYTES, or the whole file.
 */
export function readFirstLine(head: Uint8Array): FirstLine {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  const end = bytes.indexOf("\n");
  if (end > 0 && bytes[end - 1] === 0x0d) return { interpreter: undefined, fault: WINDOWS };
  if (bytes.toString("latin1", 0, 2) !== "#!") return { interpreter: undefined, fault: undefined };
  const isWhole = (end !== -1 && end < SHEBANG_BYTES) || bytes.length < SHEBANG_BYTES;
  // Of a line that is longer the kernel overwrites the last byte that it has read, after it has looked at it.
  const line = bytes.subarray(2, isWhole && end !== -1 ? end : SHEBANG_BYTES - 1);
  const [, path = "", blank = "", argument = ""] =
    /^[ \t]*([^ \t\0]*)([ \t]*)([^\0]*)/.exec(line.toString("latin1")) ?? [];
  // Without a blank behind it nobody knows whether the name is complete.
  if (
    !isWhole &&
    path !== "" &&
    blank === "" &&
    !/[ \t\0]/.test(String.fromCharCode(bytes[SHEBANG_BYTES - 1]!))
  ) {
    const fault = `has an interpreter whose name is longer than the ${SHEBANG_BYTES} bytes that the kernel reads`;
    return { interpreter: undefined, fault };
  }
  if (path === "") return { interpreter: undefined, fault: undefined };
  const words = [path, argument.replace(/[ \t]+$/, "")].filter((word) => word !== "").map(decode);
  const [interpreter, option] = words as [string | undefined, string | undefined];
  if (words.includes(undefined)) {
    return { interpreter: undefined, fault: "has a first line that is not UTF-8" };
  }
  return { interpreter: option === undefined ? [interpreter!] : [interpreter!, option], fault: undefined };
}

/** Undefined for bytes that are not UTF-8: a string cannot hold them. */
function decode(latin1: string): string | undefined {
  const bytes = Buffer.from(latin1, "latin1");
  const text = bytes.toString("utf8");
  return Buffer.from(text, "utf8").equals(bytes) ? text : undefined;
}
