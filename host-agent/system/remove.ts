/** Errors of unlink(2) and rmdir(2) that say: gone, or changed by somebody else, who has to clean it up. */
const NOT_OURS = new Set([
  "ENOENT",
  "ENOTDIR",
  "EISDIR",
  "ERR_FS_EISDIR",
  "ENOTEMPTY",
  "EACCES",
  "EPERM",
  "EROFS",
]);

/** Removes something; what cannot be removed because somebody else changed it stays. Rejects when the file system fails. */
export async function removeIfOurs(remove: () => Promise<void>): Promise<void> {
  try {
    await remove();
  } catch (error) {
    if (!NOT_OURS.has((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
}
