import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  lstatSync,
  openSync,
  readSync,
  unlinkSync,
  writeSync,
} from "node:fs";

import { removeIfOurs } from "../system/remove.ts";

/** Device and inode of a file: tells the log that was created for a run from another one in its place. */
export function fileIdentity({ dev, ino }: { dev: number | bigint; ino: number | bigint }): string {
  return `${dev}:${ino}`;
}

/** The identity of the regular file at `path`; undefined when there is none. */
export function logIdentity(path: string): string | undefined {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  return stats?.isFile() ? fileIdentity(stats) : undefined;
}

/** Removes the log at `path`; only the very file that was created for the run, which is `identity`. */
export function removeLog(path: string, identity: string): void {
  removeIfOurs(() => {
    if (logIdentity(path) === identity) unlinkSync(path);
  });
}

/** The line that a log over its limit ends with. It depends on the limit alone, so offsets behind it stay good. */
export function logEndMark(limit: number): Buffer {
  return Buffer.from(
    `\n[The log ends here: it reached its limit of ${limit} bytes. What the run wrote after that was not kept.]\n`,
  );
}

/**
 * Cuts a log that is over its limit back to its first `limit` bytes and the end
 * mark, and returns whether it is over. The run may go on writing: it appends
 * behind the mark, and the next call takes that away. The file never gets
 * shorter than what has been shown of it. A file that is not `identity` is left alone.
 */
export function cutLog(path: string, limit: number, identity: string): boolean {
  const { O_RDWR, O_NOFOLLOW, O_NONBLOCK } = constants;
  let fd: number;
  try {
    fd = openSync(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
  } catch {
    // Moved or removed on the host: then it is no longer ours.
    return false;
  }
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile() || fileIdentity(stats) !== identity || stats.size <= limit) return false;
    const mark = logEndMark(limit);
    const there = Buffer.alloc(mark.length);
    readSync(fd, there, 0, there.length, limit);
    // First the mark, then the cut: broken off in between, the file is still over its limit.
    if (!there.equals(mark)) writeSync(fd, mark, 0, mark.length, limit);
    if (stats.size > limit + mark.length) ftruncateSync(fd, limit + mark.length);
    return true;
  } finally {
    closeSync(fd);
  }
}
