import { mkdirSync, realpathSync, statfsSync } from "node:fs";
import { dirname, resolve } from "node:path";

/** The file systems that the kernel makes up (statfs(2)), in which nobody can make a folder. */
const KERNEL_FILE_SYSTEMS = new Map([
  [0x9f_a0, "proc"],
  [0x62_65_65_72, "sysfs"],
]);

/**
 * Makes a folder, and those above it, for this user only or with another mode. Throws for one in
 * /proc or /sys, where mkdir(2) says ENOENT of a folder that is there and
 * mkdirSync would try for ever.
 */
export function makeFolder(path: string, mode = 0o700): void {
  const kind = KERNEL_FILE_SYSTEMS.get(statfsSync(nearestFolder(resolve(path))).type);
  if (kind !== undefined)
    throw new Error(`it lies in ${kind}, which is the kernel's; name a folder on a disk`);
  mkdirSync(path, { recursive: true, mode });
}

/** The real path of what exists of `path`. */
function nearestFolder(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path === dirname(path) ? path : nearestFolder(dirname(path));
  }
}
