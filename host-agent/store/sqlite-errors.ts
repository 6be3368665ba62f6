/** The result codes of SQLite (sqlite.org/rescode.html) for a file that is damaged: CORRUPT, and NOTADB. */
const DAMAGED = new Set([11, 26]);
/** Those of a write that may succeed later: BUSY, READONLY, IOERR, FULL. */
const UNWRITABLE = new Set([5, 8, 10, 13]);
/** Those of them that more space on the disk may solve: IOERR (the shared memory cannot grow), FULL. */
const WITHOUT_SPACE = new Set([10, 13]);

/** True for the error of SQLite that says that the file is not, or no longer, a whole database. */
export function isDamaged(error: unknown): boolean {
  return DAMAGED.has(codeOf(error));
}

/** True for the error of SQLite that says that nothing could be written now. */
export function isUnwritable(error: unknown): boolean {
  return UNWRITABLE.has(codeOf(error));
}

/** True for the error of SQLite that says that the disk has no space, or may be caused by that. */
export function isWithoutSpace(error: unknown): boolean {
  return WITHOUT_SPACE.has(codeOf(error));
}

/** The primary result code; -1 for an error that is not SQLite's. */
function codeOf(error: unknown): number {
  const errcode = (error as { errcode?: unknown } | null)?.errcode;
  return typeof errcode === "number" ? errcode & 0xff : -1;
}
