import { closeSync, constants, fstatSync, mkdirSync, openSync, readlinkSync } from "node:fs";

import { ApiProblem } from "../protocol/problem.ts";

/** Of open(2): a descriptor to go on from, which needs no right to read. Not among Node's constants. */
const O_PATH = 0o10_000_000;
const { O_DIRECTORY, O_NOFOLLOW } = constants;
/** As the kernel's (path_resolution(7)). */
const MAX_LINKS = 40;
const LOG_FOLDER_MODE = 0o750;
const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;

/** A folder that is held, whatever becomes of its path. */
export type HeldFolder = { fd: number } & Disposable;

/**
 * Opens the folder of a log, made if it is missing. It goes from folder to folder
 * by descriptors, and follows a symbolic link only where nobody but root and
 * this user can have put it: any other user with write permission on the path could have logs
 * written to every place where this user may write. Throws `launch_failed` for such a link, and
 * what the file system says.
 */
export function openLogFolder(path: string): HeldFolder {
  return walk(path, (place) => mkdirSync(place, { mode: LOG_FOLDER_MODE }));
}

/** Throws as `openLogFolder` would, and makes nothing. */
export function checkLogFolder(path: string): void {
  try {
    walk(path, (_place, missing) => {
      throw missing;
    })[Symbol.dispose]();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

function walk(path: string, make: (place: string, missing: unknown) => void): HeldFolder {
  let folder = openSync("/", O_PATH | O_DIRECTORY);
  let left = parts(path);
  /** How many of the next names come from links: their targets must exist. */
  let fromLinks = 0;
  try {
    for (let links = 0; left.length > 0;) {
      const [name, ...rest] = left as [string, ...string[]];
      const place = placeIn(folder, name);
      const next = fromLinks > 0 ? openPlace(place) : openNext(place, make);
      const stats = fstatSync(next);
      left = rest;
      fromLinks = Math.max(0, fromLinks - 1);
      if (!stats.isSymbolicLink()) {
        closeSync(folder);
        folder = next;
        continue;
      }
      closeSync(next);
      if (!isOurs(stats) || !isClosedToOthers(folder) || ++links > MAX_LINKS) throw foreignLink();
      const target = readlinkSync(place);
      if (target.startsWith("/")) {
        closeSync(folder);
        folder = openSync("/", O_PATH | O_DIRECTORY);
      }
      left = [...parts(target), ...rest];
      fromLinks += parts(target).length;
    }
    // With O_DIRECTORY, so that a file in its place is reported as ENOTDIR.
    closeSync(openSync(placeIn(folder, "."), O_PATH | O_DIRECTORY));
    const fd = folder;
    return { fd, [Symbol.dispose]: () => closeSync(fd) };
  } catch (error) {
    closeSync(folder);
    throw error;
  }
}

function parts(path: string): string[] {
  return path.split("/").filter((name) => name !== "" && name !== ".");
}

/** A path to what is in a folder that is held. */
export function placeIn(folder: number, name: string): string {
  return `/proc/self/fd/${folder}/${name}`;
}

/** Opens what is at the place: of a link, the link. */
function openPlace(place: string): number {
  return openSync(place, O_PATH | O_NOFOLLOW);
}

/** The same; when it does not exist, after making it. */
function openNext(place: string, make: (place: string, missing: unknown) => void): number {
  try {
    return openPlace(place);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    try {
      make(place, error);
    } catch (fault) {
      // Another launch has made it at the same time.
      if ((fault as NodeJS.ErrnoException).code !== "EEXIST") throw fault;
    }
    return openPlace(place);
  }
}

function isOurs({ uid }: { uid: number }): boolean {
  return uid === 0 || uid === process.geteuid!();
}

/** True for a folder in which nobody else can replace what is ours. */
function isClosedToOthers(folder: number): boolean {
  const stats = fstatSync(folder);
  return isOurs(stats) && ((stats.mode & WRITABLE_BY_OTHERS) === 0 || (stats.mode & STICKY) !== 0);
}

function foreignLink(): ApiProblem {
  return new ApiProblem(
    "launch_failed",
    "Cannot start it: the folder of its log is behind a symbolic link that another user could have put there",
  );
}
