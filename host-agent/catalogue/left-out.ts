import { realpathSync } from "node:fs";
import { sep } from "node:path";

/** What is not launched although it is in a root. */
export interface LeftOut {
  /** Below a root, everything whose name, or the name of a folder above it, starts with a dot. */
  hidden: boolean;
  /** Files and folders with everything in them. */
  paths: readonly string[];
}

export const NOTHING_LEFT_OUT: LeftOut = { hidden: false, paths: [] };
const HIDDEN = /(?:^|\/)\./;

/** A test for real paths inside these real roots, at this moment: true for what is left out. What one root hides, another one may show. */
export function leftOutTest(
  realRoots: readonly string[],
  { hidden, paths }: LeftOut,
): (real: string) => boolean {
  // A path that does not exist yet may be created at any time.
  const left = paths.map(realOrSame);
  return (real) => {
    if (left.some((path) => isWithin(real, path))) return true;
    const around = realRoots.filter((root) => isWithin(real, root));
    return hidden && around.every((root) => HIDDEN.test(real.slice(root.length)));
  };
}

/** True for the folder itself, and for everything in it. */
export function isWithin(real: string, folder: string): boolean {
  return real === folder || real.startsWith(folder.endsWith(sep) ? folder : folder + sep);
}

function realOrSame(path: string): string {
  try {
    return realpathSync.native(path);
  } catch {
    return path;
  }
}
