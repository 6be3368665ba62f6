import { isExhausted } from "../system/exhaustion.ts";
import { ApiProblem } from "../protocol/problem.ts";

/** The result codes of SQLite (sqlite.org/rescode.html) of failures that may pass: BUSY, READONLY, IOERR, FULL. */
const SQLITE_NOT_NOW = new Set([5, 8, 10, 13]);

/** The problem to answer for an error. Anything but an ApiProblem is an internal error: its cause is for the log only. */
export function failureOf(thrown: unknown): ApiProblem {
  if (thrown instanceof ApiProblem) return thrown;
  const errcode = (thrown as { errcode?: number } | null)?.errcode;
  if (errcode !== undefined && SQLITE_NOT_NOW.has(errcode & 0xff)) {
    return new ApiProblem("host_unavailable", "The host cannot write its state now. Try again", {
      retryAfterSeconds: 10,
      cause: thrown,
    });
  }
  if (isExhausted(thrown)) {
    const { code } = thrown as NodeJS.ErrnoException;
    return new ApiProblem("host_unavailable", `The host lacks a resource now (${code}). Try again`, {
      retryAfterSeconds: 10,
      cause: thrown,
    });
  }
  return new ApiProblem("internal", "Something went wrong on the host", { cause: thrown });
}
