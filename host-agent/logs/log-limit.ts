import { constants, ftruncateSync, lstatSync, readSync, type Stats, writeSync } from "node:fs";
import { lstat, unlink } from "node:fs/promises";

import { openFile, type OpenFile } from "../system/open-file.ts";
import { removeIfOurs } from "../system/remove.ts";

/** Device and inode of a file: tells the log that was created for a run from another one in its place. */
export function fileIdentity({ dev, ino }: { dev: number | bigint; ino: number | bigint }): string {
  return `${dev}:${ino}`;
}

/**
 * True when a file is another than `identity`, on the same device. On another device it is the log itself: the folder was copied
 * to another disk, or the file system has another number since it was mounted again (NFS, btrfs).
 */
export function isReplacement({ dev, ino }: Pick<Stats, "dev" | "ino">, identity: string): boolean {
  return identity.startsWith(`${dev}:`) && identity !== fileIdentity({ dev, ino });
}

/** The identity of the regular file at `path`; undefined when there is none. */
export function logIdentity(path: string): string | undefined {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  return stats?.isFile() ? fileIdentity(stats) : undefined;
}

/** Removes the log at `path`; only the very file that was created for the run, which is `identity`. Rejects when the file system fails. */
export async function removeLog(path: string, identity: string): Promise<void> {
  await removeIfOurs(async () => {
    if (isLog(await lstat(path), identity)) await unlink(path);
  });
}

/** The size in bytes of the log at `path`; 0 when the file that was created for the run, `identity`, does not exist or cannot be looked at. */
export async function logSize(path: string, identity: string): Promise<number> {
  try {
    const stats = await lstat(path);
    return isLog(stats, identity) ? stats.size : 0;
  } catch {
    return 0;
  }
}

function isLog(stats: Stats, identity: string): boolean {
  return stats.isFile() && fileIdentity(stats) === identity;
}

/** The line that a log over its limit ends with. It depends on the limit alone, so offsets behind it stay good. */
export function logEndMark(limit: number): Buffer {
  return Buffer.from(
    `\n[The log ends here: it reached its limit of ${limit} bytes. What the run wrote after that was not kept.]\n`,
  );
}

/** The line of a log where output is missing. */
export const LOST_OUTPUT_LINE =
  "\n[Output is missing here: it could not be written, most likely because the disk was full.]\n";

/**
 * Cuts a log that is over its limit back to its first `limit` bytes and the end
 * mark, and returns whether it is over. The pump of a run keeps the limit itself: what
 * is left to cut is what others append, and a run of version 1.0, which appends behind the mark until the next call. The file never gets
 * shorter than what has been shown of it. A file that is not `identity` is left alone.
 */
export function cutLog(path: string, limit: number, identity: string): boolean {
  using log = openOrUndefined(path);
  if (!log || fileIdentity(log.stats) !== identity || log.stats.size <= limit) return false;
  const mark = logEndMark(limit);
  const there = Buffer.alloc(mark.length);
  readSync(log.fd, there, 0, there.length, limit);
  // First the mark, then the cut: broken off in between, the file is still over its limit.
  if (!there.equals(mark)) writeSync(log.fd, mark, 0, mark.length, limit);
  if (log.stats.size > limit + mark.length) ftruncateSync(log.fd, limit + mark.length);
  return true;
}

/** A log that was moved, removed or replaced on the host is no longer ours. */
function openOrUndefined(path: string): OpenFile | undefined {
  try {
    return openFile(path, constants.O_RDWR);
  } catch {
    return undefined;
  }
}
