/** The errno values that say the host is out of something, now. */
const EXHAUSTED = new Set(["ENOSPC", "EDQUOT", "EMFILE", "ENFILE", "EAGAIN", "ENOMEM", "EROFS", "EIO"]);
/** Those of them that nobody can bring about who only holds the file that is opened. */
const UNABLE_TO_LOOK = new Set(["EMFILE", "ENFILE", "ENOMEM"]);

/** True for an error that may pass: the host has no room, descriptors or memory for it now. */
export function isExhausted(error: unknown): boolean {
  return EXHAUSTED.has(codeOf(error));
}

/**
 * True when a file or process could not be looked at, so that nothing is known of
 * it: it may be there. Whoever takes such an error for "gone" declares the living dead.
 */
export function isUnableToLook(error: unknown): boolean {
  return UNABLE_TO_LOOK.has(codeOf(error));
}

/** Where Node wraps what the system said, it stands in `info`. */
function codeOf(error: unknown): string {
  const { code, info } = (error ?? {}) as { code?: unknown; info?: { code?: unknown } };
  return String(info?.code ?? code);
}
