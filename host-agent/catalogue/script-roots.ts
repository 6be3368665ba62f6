import { lstatSync, realpathSync } from "node:fs";
import { dirname, isAbsolute } from "node:path";

import { ApiProblem } from "../protocol/problem.ts";
import { isWithin, type LeftOut, leftOutTest, NOTHING_LEFT_OUT } from "./left-out.ts";

/** The script roots, and the test whether a path is inside one. */
export interface ScriptRoots {
  /** The roots' real paths at this moment: a root may be a link that the operator moves. */
  real(): string[];
  /** A test for real paths, by the roots of this moment: true inside a root, and for a root itself. */
  inside(): (real: string) => boolean;
  /** The real path of what exists at `path` inside a root. Throws `path_forbidden` and `script_not_found`. */
  confine(path: string): string;
}

/** Whether something outside the roots exists cannot be learned from what `confine` throws: it is always `path_forbidden`. */
export function scriptRoots(roots: readonly string[], leftOut: LeftOut = NOTHING_LEFT_OUT): ScriptRoots {
  const real = () => roots.map(realPathOf).filter((root) => root !== undefined);
  return {
    real,
    inside: () => isInsideOf(real(), leftOut),
    confine(path) {
      if (!isAbsolute(path)) throw forbidden("must be an absolute path of a script inside the script roots");
      const inside = isInsideOf(real(), leftOut);
      const found = realPathOf(path);
      if (found !== undefined) {
        if (!inside(found)) throw forbidden();
        return found;
      }
      if (!isMissingInside(path, inside)) throw forbidden();
      throw new ApiProblem("script_not_found", "path: nothing exists at this path");
    },
  };
}

/** `rule` is a rule that the path alone breaks, whatever exists on the host. */
export function forbidden(rule = "only .sh files inside the script roots are allowed"): ApiProblem {
  return new ApiProblem("path_forbidden", `path: ${rule}`);
}

/** The real path; undefined for a path that leads nowhere. */
export function realPathOf(path: string): string | undefined {
  try {
    return realpathSync.native(path);
  } catch {
    return undefined;
  }
}

function isInsideOf(roots: readonly string[], leftOut: LeftOut): (real: string) => boolean {
  const isLeftOut = leftOutTest(roots, leftOut);
  return (real) => roots.some((root) => isWithin(real, root)) && !isLeftOut(real);
}

/** True when nothing exists at `path`, and the folder that it would be in is inside. */
function isMissingInside(path: string, inside: (real: string) => boolean): boolean {
  // As the kernel resolves it: `..` after a link is the parent of the link's target.
  for (let ancestor = path; ; ancestor = dirname(ancestor)) {
    const found = exists(ancestor);
    if (found === undefined) return false;
    // A dangling link has no real path: its target is outside, or nothing.
    if (found) return inside(realPathOf(ancestor) ?? "");
    if (ancestor === dirname(ancestor)) return false;
  }
}

/** Undefined when that cannot be known. */
function exists(path: string): boolean | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch {
    return undefined;
  }
}
