import { lstatSync, readlinkSync, realpathSync, type Stats } from "node:fs";
import { isAbsolute, join, normalize, resolve, sep } from "node:path";

import { ApiProblem } from "../protocol/problem.ts";
import { type LeftOut, leftOutTest, NOTHING_LEFT_OUT } from "./left-out.ts";

/** What a path is asked for: the answer for one that leads nowhere names it. */
type Wanted = "script" | "folder";

/** The script roots, and the way to what is inside them. */
export interface ScriptRoots {
  /** The roots' real paths at this moment: a root may be a link that the operator moves. */
  real(): string[];
  /** A test for real paths inside the roots, by the roots of this moment: true for what is left out. */
  leftOut(): (real: string) => boolean;
  /**
   * The real path of what exists at `path` inside a root, if `isInReach` says yes to it. Throws `path_forbidden`,
   * `script_not_found` and `host_unavailable`.
   */
  confine(path: string, wanted: Wanted, isInReach?: (real: string) => boolean): string;
}

/** More parts than the deepest tree of scripts has, and few enough to look at each. */
const MAX_PARTS = 128;
/** As the kernel counts them, path_resolution(7). */
const MAX_LINKS = 40;

/** A root's real path, and the words that are below it. */
interface Place {
  root: string;
  parts: string[];
}

/**
 * A path is judged by its words: `.` and `..` are resolved as text, and what is left has to be under a root. Only then is
 * the file system looked at, from that root on, part by part; the target of a link is judged in the same way. So nothing
 * outside the roots is ever looked at, and neither the answer nor its time depends on what exists there.
 */
export function scriptRoots(roots: readonly string[], left: LeftOut = NOTHING_LEFT_OUT): ScriptRoots {
  const real = () => roots.map(realRoot).filter((root) => root !== undefined);
  const leftOut = () => leftOutTest(real(), left);

  function confine(path: string, wanted: Wanted, isInReach = (_real: string) => true): string {
    if (!isAbsolute(path) || path.includes("\0")) {
      throw forbidden("must be an absolute path of a script inside the script roots");
    }
    if (partsOf(normalize(path)).length > MAX_PARTS) {
      throw forbidden(`must have at most ${MAX_PARTS} parts`);
    }
    const end = follow(path, placeFinder(roots));
    // Also where nothing exists: what exists in a folder that is left out, or out of reach, cannot be learned.
    if (leftOut()(end.path) || !isInReach(end.path)) throw forbidden();
    if (!end.exists) throw notFound(wanted);
    return end.path;
  }

  return { real, leftOut, confine };
}

/** Where a path leads. */
interface End {
  /** The real path; when nothing exists there, the one that it would have. */
  path: string;
  exists: boolean;
}

function follow(path: string, placeOf: (words: string) => Place): End {
  let { root: at, parts } = placeOf(path);
  for (let links = 0; parts.length > 0;) {
    const [name, ...rest] = parts as [string, ...string[]];
    const next = join(at, name);
    const stats = looking(() => lstatSync(next));
    const missing = { path: join(next, ...rest), exists: false };
    if (stats === undefined || (rest.length > 0 && isDeadEnd(stats))) return missing;
    if (!stats.isSymbolicLink()) {
      at = next;
      parts = rest;
      continue;
    }
    // No link any more: it was replaced between the two looks.
    const target = looking(() => readlinkSync(next), ["EINVAL"]);
    if (target === undefined) return missing;
    const place = placeOf(resolve(at, target));
    at = place.root;
    parts = [...place.parts, ...rest];
    if (++links > MAX_LINKS || parts.length > MAX_PARTS) throw forbidden();
  }
  return { path: at, exists: true };
}

function isDeadEnd(stats: Stats): boolean {
  return !stats.isDirectory() && !stats.isSymbolicLink();
}

/** Finds the root that words are under, by the path that the operator wrote or by its real path. Throws `path_forbidden`. */
function placeFinder(roots: readonly string[]): (words: string) => Place {
  const bases = roots.flatMap((root) => {
    const real = realRoot(root);
    return real === undefined ? [] : [root, real].map((base) => ({ base: partsOf(normalize(base)), real }));
  });
  return (words) => {
    const parts = partsOf(normalize(words));
    const found = bases.find(({ base }) => base.every((part, i) => parts[i] === part));
    if (!found) throw forbidden();
    return { root: found.real, parts: parts.slice(found.base.length) };
  };
}

function partsOf(normalized: string): string[] {
  return normalized.split(sep).filter((part) => part !== "");
}

/** The operator named the root, so links on the way to it are followed. Undefined when it leads nowhere. */
function realRoot(root: string): string | undefined {
  return looking(() => realpathSync.native(root), ["ELOOP", "EACCES"]);
}

/** `rule` is a rule that the path alone breaks, whatever exists on the host. */
export function forbidden(rule = "only .sh files inside the script roots are allowed"): ApiProblem {
  return new ApiProblem("path_forbidden", `path: ${rule}`);
}

/** The same for a path where nothing exists, and for one that leads to something else. */
export function notFound(wanted: Wanted): ApiProblem {
  return new ApiProblem("script_not_found", `path: no ${wanted} exists at this path`);
}

const NOTHING = ["ENOENT", "ENOTDIR", "ENAMETOOLONG"];
const CLOSED = ["EACCES", "EPERM", "ELOOP", "ENXIO", "ENODEV"];

/**
 * What `look` finds; undefined when nothing exists there. Throws `path_forbidden` for what this user may not see, and
 * `host_unavailable` for every other error: it tells nothing about the path.
 */
export function looking<T>(look: () => T, nothing: readonly string[] = []): T | undefined {
  try {
    return look();
  } catch (error) {
    if (error instanceof ApiProblem) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    if (NOTHING.includes(code) || nothing.includes(code)) return undefined;
    if (CLOSED.includes(code)) throw forbidden();
    throw new ApiProblem(
      "host_unavailable",
      `The host cannot look at its scripts now (${code}); try again later`,
      {
        retryAfterSeconds: 10,
        cause: error,
      },
    );
  }
}
