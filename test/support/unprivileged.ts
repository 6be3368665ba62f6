import { NOBODY_UID } from "./other-user.ts";

/**
 * Does `work` without root's right to read every file: as `nobody` when this process is root's, and as it is otherwise.
 * Only in a process, not in a thread of one.
 */
export async function unprivileged<T>(work: () => Promise<T>): Promise<T> {
  const uid = process.geteuid!();
  if (uid === 0) process.seteuid!(NOBODY_UID);
  try {
    return await work();
  } finally {
    process.seteuid!(uid);
  }
}
