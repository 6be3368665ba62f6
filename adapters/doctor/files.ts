import { accessSync, constants, statSync, type Stats } from "node:fs";
import { dirname } from "node:path";

/** The file's stats; undefined when there is none, or none that we may look at. */
export function statOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

/** The folder itself, or the nearest one above it that is there. */
export function nearestFolder(path: string): string {
  let folder = path;
  while (statOf(folder) === undefined && folder !== dirname(folder)) folder = dirname(folder);
  return folder;
}

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

/** True when any user of the machine may put another file in this one's place. */
export function isOpenToAll({ mode }: Stats): boolean {
  return (mode & 0o002) !== 0 && (mode & 0o1000) === 0;
}
