import { closeSync, constants, fstatSync, lstatSync, mkdirSync, openSync, readlinkSync } from "node:fs";
import { isAbsolute, join } from "node:path";

import { fileIdentity } from "./log-limit.ts";
import { ApiProblem } from "./protocol/problem.ts";

/** As the kernel's (path_resolution(7)). */
const MAX_LINKS = 40;

/**
 * Opens the folder of a log, made if it is missing. A symbolic link on the way to
 * it is followed only if it belongs to root or to this user: where another one
 * may write, he could have logs written wherever this user may. Throws
 * `launch_failed` for such a link, and what the file system says.
 */
export function openLogFolder(folder: string): { fd: number } & Disposable {
  checkLinks(folder);
  const fd = openOrMake(folder);
  try {
    // Looked at again behind the open: a link that was there for a moment has led elsewhere.
    const expected = lstatSync(checkLinks(folder), { throwIfNoEntry: false });
    if (expected && fileIdentity(expected) === fileIdentity(fstatSync(fd))) {
      return { fd, [Symbol.dispose]: () => closeSync(fd) };
    }
    throw foreignLink();
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/**
 * The path without its symbolic links, as far as it exists. Throws
 * `launch_failed` when one of them is another user's.
 */
export function checkLinks(path: string): string {
  let real = "/";
  let left = parts(path);
  for (let links = 0; left.length > 0;) {
    const [name, ...rest] = left as [string, ...string[]];
    const next = join(real, name);
    const stats = lstatSync(next, { throwIfNoEntry: false });
    left = rest;
    if (stats?.isSymbolicLink() !== true) {
      real = next;
      continue;
    }
    if (![0, process.geteuid!()].includes(stats.uid) || ++links > MAX_LINKS) throw foreignLink();
    const target = readlinkSync(next);
    if (isAbsolute(target)) real = "/";
    left = [...parts(target), ...rest];
  }
  return real;
}

function parts(path: string): string[] {
  return path.split("/").filter((name) => name !== "" && name !== ".");
}

function openOrMake(folder: string): number {
  const open = () => openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    return open();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    mkdirSync(folder, { recursive: true, mode: 0o750 });
    return open();
  }
}

function foreignLink(): ApiProblem {
  return new ApiProblem(
    "launch_failed",
    "Cannot start it: the folder of its log lies behind a symbolic link of another user",
  );
}
