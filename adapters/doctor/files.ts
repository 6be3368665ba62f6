import { accessSync, constants, statSync, type Stats } from "node:fs";
import { dirname } from "node:path";

/** The file's stats; undefined when it does not exist or cannot be read. */
export function statOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

/** The folder itself, or the nearest folder above it that exists. */
export function nearestFolder(path: string): string {
  let folder = path;
  while (statOf(folder) === undefined && folder !== dirname(folder)) folder = dirname(folder);
  return folder;
}

/** True when this user may create files in the folder. */
export function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK | constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Permission bits in the four digits of chmod(1). */
export function modeOf({ mode }: Stats): string {
  return (mode & 0o7777).toString(8).padStart(4, "0");
}

const OTHERS_WRITE = 0o002;
const GROUP_WRITE = 0o020;
const STICKY = 0o1000;

/**
 * Who else than root and this user may change what is at `path`, in words that follow
 * its name; undefined for no one, and for a path that does not exist.
 */
export function strangersAt(path: string): string | undefined {
  const stats = statOf(path);
  if (stats === undefined) return undefined;
  const { uid, gid, mode } = stats;
  if (uid !== 0 && uid !== process.getuid?.()) return `belongs to uid ${uid}`;
  // In a sticky folder no user can change the files of another.
  if (stats.isDirectory() && (mode & STICKY) !== 0) return undefined;
  if ((mode & OTHERS_WRITE) !== 0) return `is open to every user (mode ${modeOf(stats)})`;
  // On most systems each user has a private group, and files are writable for it by default.
  if ((mode & GROUP_WRITE) !== 0 && gid !== process.getgid?.())
    return `is open to the group ${gid} (mode ${modeOf(stats)})`;
  return undefined;
}
