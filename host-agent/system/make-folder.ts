import { existsSync, mkdirSync, realpathSync, statfsSync } from "node:fs";
import { dirname, resolve } from "node:path";

/** Virtual file systems of the kernel (statfs(2)), in which nobody can create a folder. */
const KERNEL_FILE_SYSTEMS = new Map([
  [0x9f_a0, "proc"],
  [0x62_65_65_72, "sysfs"],
]);

/**
 * Creates a folder and its missing parents, for this user only or with another mode. Throws for a path in
 * /proc or /sys, where mkdir(2) reports ENOENT for a folder that exists and
 * mkdirSync would retry forever.
 */
export function makeFolder(path: string, mode = 0o700): void {
  const kind = KERNEL_FILE_SYSTEMS.get(statfsSync(nearestFolder(resolve(path))).type);
  if (kind !== undefined) throw new Error(`it is on a ${kind} filesystem; choose a directory on disk`);
  try {
    mkdirSync(path, { recursive: true, mode });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    makeEach(resolve(path), mode);
  }
}

/** With `recursive`, Node reports each failure of mkdir(2) for a missing parent as ENOENT: also a read-only file system. */
function makeEach(path: string, mode: number): void {
  if (existsSync(path)) return;
  makeEach(dirname(path), mode);
  mkdirSync(path, { mode });
}

/** The real path of what exists of `path`. */
function nearestFolder(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path === dirname(path) ? path : nearestFolder(dirname(path));
  }
}
