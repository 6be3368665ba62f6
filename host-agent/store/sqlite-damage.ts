/** The result codes of SQLite (sqlite.org/rescode.html) for a file that is damaged: CORRUPT, and NOTADB. */
const DAMAGED = new Set([11, 26]);

/** True for the error of SQLite that says that the file is not, or no longer, a whole database. */
export function isDamaged(error: unknown): boolean {
  const errcode = (error as { errcode?: unknown } | null)?.errcode;
  return typeof errcode === "number" && DAMAGED.has(errcode & 0xff);
}
