/** The errno values of a resource that the host lacks at this moment. */
const EXHAUSTED = new Set(["ENOSPC", "EDQUOT", "EMFILE", "ENFILE", "EAGAIN", "ENOMEM", "EROFS", "EIO"]);
/** Those of them that the owner of the opened file cannot cause. */
const UNABLE_TO_LOOK = new Set(["EMFILE", "ENFILE", "ENOMEM"]);

/** True for an error that may pass: the host lacks disk space, descriptors or memory now. */
export function isExhausted(error: unknown): boolean {
  return EXHAUSTED.has(codeOf(error));
}

/**
 * True when a file or process could not be examined: nothing is known about it, and it
 * may exist. A caller that takes such an error for "gone" declares a live run dead.
 */
export function isUnableToLook(error: unknown): boolean {
  return UNABLE_TO_LOOK.has(codeOf(error));
}

/** Node puts a wrapped system error into `info`. */
function codeOf(error: unknown): string {
  const { code, info } = (error ?? {}) as { code?: unknown; info?: { code?: unknown } };
  return String(info?.code ?? code);
}
