import { createHash } from "node:crypto";
import { fstatSync, lstatSync, readFileSync, readSync, realpathSync } from "node:fs";
import { readdir, realpath, stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, sep } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";

import { isUnableToLook } from "../system/exhaustion.ts";
import { type OpenFile, openFile } from "../system/open-file.ts";
import { ApiProblem } from "../protocol/problem.ts";
import type { ScriptContent, ScriptEntry, ScriptList } from "../protocol/script.ts";

/** A script that may be run: its real path and what its bytes were when it was looked at. */
export interface ApprovedScript {
  path: string;
  /** The folder it is in. */
  folder: string;
  /** Its file name without `.sh`. */
  name: string;
  sha256: string;
  executable: boolean;
  /** The first line without its `#!`, if there is one. */
  shebang: string | undefined;
  /** Equal for as long as the file was neither replaced nor changed. */
  version: string;
}

const MAX_LISTED = 1_000;
const MAX_FOLDERS = 20_000;
const MAX_CONTENT_BYTES = 1_048_576;

export type Scripts = ReturnType<typeof openScripts>;

/**
 * The `.sh` files inside the roots, and nothing else of the host. Whether
 * something outside them exists cannot be learned: it is always `path_forbidden`.
 */
export function openScripts(roots: readonly string[]) {
  /** The roots' real paths at this moment: a root may be a link that the operator moves. */
  function realRoots(): string[] {
    return roots.map(realPathOf).filter((root) => root !== undefined);
  }

  /** The real path behind `path`, which lies inside a root and exists. */
  function confine(path: string): string {
    if (!isAbsolute(path)) throw forbidden("must be absolute, and name one of the scripts that are open");
    const inside = isInside(realRoots());
    const real = realPathOf(path);
    if (real !== undefined) {
      if (!inside(real)) throw forbidden();
      return real;
    }
    if (!isMissingInside(path, inside)) throw forbidden();
    throw new ApiProblem("script_not_found", "path: there is nothing at this path");
  }

  function confineScript(path: string): string {
    if (!path.endsWith(".sh")) throw forbidden("must end in .sh, as all scripts do that are open");
    const real = confine(path);
    if (!real.endsWith(".sh")) throw forbidden();
    return real;
  }

  return {
    /** Lists the scripts under a folder inside the roots; under all the roots without one. */
    async list(path?: string): Promise<ScriptList> {
      const folders = path === undefined ? realRoots() : [confine(path)];
      if (path !== undefined && !(await stat(folders[0]!)).isDirectory()) {
        throw new ApiProblem("script_not_found", "path: there is no folder at this path");
      }
      return listScripts(folders, isInside(realRoots()));
    },

    /** Reads a script's source, at most 1 MiB of it. */
    async read(path: string): Promise<ScriptContent> {
      const real = confineScript(path);
      using file = openScript(real);
      const { size } = file.stats;
      if (size > MAX_CONTENT_BYTES) {
        throw new ApiProblem(
          "script_too_large",
          `path: the script has ${size} bytes; at most ${MAX_CONTENT_BYTES} are shown`,
        );
      }
      const bytes = readFileSync(file.fd);
      return { path: real, content: new TextDecoder().decode(bytes), size: bytes.length };
    },

    /** Looks at a script that is about to run. */
    async approve(path: string): Promise<ApprovedScript> {
      const real = confineScript(path);
      using file = openScript(real);
      const { sha256, head } = await digest(file.fd);
      return {
        path: real,
        folder: dirname(real),
        name: basename(real, ".sh"),
        sha256,
        executable: (file.stats.mode & 0o111) !== 0,
        shebang: /^#![ \t]*([^\n]+)/.exec(head)?.[1],
        version: versionOf(fstatSync(file.fd, { bigint: true })),
      };
    },

    /** True while the script is still the file, with the bytes, that was approved. */
    isUnchanged(script: ApprovedScript): boolean {
      if (realPathOf(script.path) !== script.path) return false;
      const stats = lstatSync(script.path, { bigint: true, throwIfNoEntry: false });
      return stats !== undefined && versionOf(stats) === script.version;
    },
  };
}

/** `rule` is one that the path alone breaks, whatever the host holds. */
function forbidden(rule = "only .sh files inside the script roots are open"): ApiProblem {
  return new ApiProblem("path_forbidden", `path: ${rule}; GET /api/v1/scripts lists them`);
}

function isInside(roots: readonly string[]): (real: string) => boolean {
  return (real) =>
    roots.some((root) => real === root || real.startsWith(root.endsWith(sep) ? root : root + sep));
}

/** Undefined for a path that leads nowhere. */
function realPathOf(path: string): string | undefined {
  try {
    return realpathSync.native(path);
  } catch {
    return undefined;
  }
}

/** True when nothing is at `path`, and the folder it would lie in is inside. */
function isMissingInside(path: string, inside: (real: string) => boolean): boolean {
  // As the kernel goes, for which `..` behind a link leads to where the link leads.
  for (let ancestor = path; ; ancestor = dirname(ancestor)) {
    const exists = isThere(ancestor);
    if (exists === undefined) return false;
    // A dangling link has no real path: what it points at is outside, or nothing.
    if (exists) return inside(realPathOf(ancestor) ?? "");
    if (ancestor === dirname(ancestor)) return false;
  }
}

/** Undefined when that cannot be known. */
function isThere(path: string): boolean | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch {
    return undefined;
  }
}

/** Throws `path_forbidden` for all that is not a file that can be read. */
function openScript(real: string): OpenFile {
  try {
    return openFile(real);
  } catch (error) {
    throw isUnableToLook(error) ? error : forbidden();
  }
}

/** Reads on in the next turn of the event loop after so many bytes, so that a huge script holds nobody up. */
const BYTES_PER_TURN = 1_048_576;

async function digest(fd: number): Promise<{ sha256: string; head: string }> {
  const hash = createHash("sha256");
  const buffer = Buffer.allocUnsafe(65_536);
  let head: string | undefined;
  for (let total = 0; ;) {
    const length = readSync(fd, buffer, 0, buffer.length, null);
    const bytes = buffer.subarray(0, length);
    head ??= bytes.toString("latin1", 0, 256);
    if (length === 0) return { sha256: hash.digest("hex"), head };
    hash.update(bytes);
    total += length;
    if (total % BYTES_PER_TURN === 0) await nextTurn();
  }
}

function versionOf(stats: { dev: bigint; ino: bigint; size: bigint; ctimeNs: bigint }): string {
  return `${stats.dev}:${stats.ino}:${stats.size}:${stats.ctimeNs}`;
}

async function listScripts(
  folders: readonly string[],
  inside: (real: string) => boolean,
): Promise<ScriptList> {
  const scripts: ScriptEntry[] = [];
  const seen = new Set<string>();
  const queue = [...folders];
  while (queue.length > 0) {
    const folder = queue.shift()!;
    if (seen.has(folder)) continue;
    if (seen.size === MAX_FOLDERS) return { scripts, truncated: true };
    seen.add(folder);
    const entries = await readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
      if (isUnableToLook(error)) throw error;
      return [];
    });
    entries.sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const entry of entries) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) {
        if (!entry.name.startsWith(".") && entry.name !== "node_modules") queue.push(path);
      } else if (entry.name.endsWith(".sh")) {
        const script = await describeScript(path, inside);
        if (script && scripts.length === MAX_LISTED) return { scripts, truncated: true };
        if (script) scripts.push(script);
      }
    }
  }
  return { scripts, truncated: false };
}

async function describeScript(
  path: string,
  inside: (real: string) => boolean,
): Promise<ScriptEntry | undefined> {
  const real = await realpath(path).catch(() => undefined);
  if (real === undefined || !inside(real) || !real.endsWith(".sh")) return undefined;
  const stats = await stat(real).catch(() => undefined);
  if (!stats?.isFile()) return undefined;
  return { path, name: basename(path), size: stats.size, modified_at: Math.floor(stats.mtimeMs / 1000) };
}
