import { closeSync, constants, fstatSync, openSync, type Stats } from "node:fs";

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

/** An open descriptor; disposing of it closes it. */
export interface OpenFile extends Disposable {
  readonly fd: number;
  /** What fstat(2) reported right after the open. */
  readonly stats: Stats;
}

/** The path leads to a folder, a device, a socket or a FIFO. */
export class NotRegularFile extends Error {
  override readonly name = "NotRegularFile";
}

/**
 * Opens a regular file at a path that another user may be able to change:
 * a symbolic link at its end is not followed, and a FIFO does not block the
 * call (open(2), O_NOFOLLOW and O_NONBLOCK). `flags` and `mode` are those of
 * open(2). Throws the errno of open(2), ELOOP for a link, and NotRegularFile.
 */
export function openFile(path: string, flags: number = O_RDONLY, mode?: number): OpenFile {
  return opened(openSync(path, flags | O_NOFOLLOW | O_NONBLOCK, mode), (stats) => {
    if (!stats.isFile()) throw new NotRegularFile(`${path} is not a regular file`);
  });
}

/** Opens a folder; a symbolic link at the end of the path is not followed. Throws the errno of open(2). */
export function openFolder(path: string): OpenFile {
  return opened(openSync(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), () => {});
}

function opened(fd: number, check: (stats: Stats) => void): OpenFile {
  try {
    const stats = fstatSync(fd);
    check(stats);
    return { fd, stats, [Symbol.dispose]: () => closeSync(fd) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
