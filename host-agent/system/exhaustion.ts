/** The errno values of a resource that the host lacks at this moment. */
const EXHAUSTED = new Set(["ENOSPC", "EDQUOT", "EMFILE", "ENFILE", "EAGAIN", "ENOMEM", "EROFS", "EIO"]);
/** Those of them that the owner of the opened file cannot cause. */
const UNABLE_TO_LOOK = new Set(["EMFILE", "ENFILE", "ENOMEM"]);

/**
 * The errno values of a file that cannot be read now and may be readable later: a sick disk, a network file system that does
 * not answer, permissions that somebody changed.
 */
const UNREADABLE = new Set([
  "EIO",
  "EACCES",
  "EPERM",
  "ESTALE",
  "ETIMEDOUT",
  "ENOTCONN",
  "EHOSTDOWN",
  "EREMOTEIO",
]);

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

/** The errno of a file that could not be read, which proves nothing about its content; undefined for any other error. */
export function unreadableCode(error: unknown): string | undefined {
  const code = codeOf(error);
  return UNREADABLE.has(code) ? code : undefined;
}

/** True for an error of the file system about one file, and not about the whole host. */
export function isOfOneFile(error: unknown): boolean {
  return typeof (error as { syscall?: unknown } | undefined)?.syscall === "string" && !isUnableToLook(error);
}

/** Node puts a wrapped system error into `info`. */
function codeOf(error: unknown): string {
  const { code, info } = (error ?? {}) as { code?: unknown; info?: { code?: unknown } };
  return String(info?.code ?? code);
}
