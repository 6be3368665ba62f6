import { type Stats, statSync } from "node:fs";

export const MISSING = "missing";

/** Differs whenever the file may have changed: also when it becomes unreadable, or is replaced within a clock tick. */
export function fileVersion(path: string): string {
  try {
    const stats = statSync(path, { bigint: true, throwIfNoEntry: false });
    return stats ? `${stats.dev}:${stats.ino}:${stats.size}:${stats.mtimeNs}:${stats.ctimeNs}` : MISSING;
  } catch {
    return "out of reach";
  }
}

/** The stats of `path`; undefined when nothing exists there, or this user may not look. */
export function statsOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}
