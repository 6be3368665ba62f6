import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, lstat, open, readdir, realpath, stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, normalize, sep } from "node:path";

import { isUnableToLook } from "./exhaustion.ts";
import { ApiProblem } from "./protocol/problem.ts";
import type { ScriptContent, ScriptEntry, ScriptList } from "./protocol/schemas.ts";

/** A script that may be run: its real path and what its bytes were when it was looked at. */
export interface ApprovedScript {
  path: string;
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
  async function realRoots(): Promise<string[]> {
    const found = await Promise.all(roots.map((root) => realpath(root).catch(() => undefined)));
    return found.filter((root) => root !== undefined);
  }

  /** The real path behind `path`, which lies inside a root and exists. */
  async function confine(path: string): Promise<string> {
    if (!isAbsolute(path)) throw forbidden();
    const [found, real] = await Promise.all([realRoots(), realpath(path).catch(() => undefined)]);
    const inside = isInside(found);
    if (real !== undefined) {
      if (!inside(real)) throw forbidden();
      return real;
    }
    if (!(await isMissingInside(path, inside))) throw forbidden();
    throw new ApiProblem("script_not_found", "path: there is nothing at this path");
  }

  async function confineScript(path: string): Promise<string> {
    if (!path.endsWith(".sh")) throw forbidden();
    const real = await confine(path);
    if (!real.endsWith(".sh")) throw forbidden();
    return real;
  }

  return {
    /** Lists the scripts under a folder inside the roots; under all the roots without one. */
    async list(path?: string): Promise<ScriptList> {
      const folders = path === undefined ? await realRoots() : [await confine(path)];
      if (path !== undefined && !(await stat(folders[0]!)).isDirectory()) {
        throw new ApiProblem("script_not_found", "path: there is no folder at this path");
      }
      return listScripts(folders, isInside(await realRoots()));
    },

    /** Reads a script's source, at most 1 MiB of it. */
    async read(path: string): Promise<ScriptContent> {
      const real = await confineScript(path);
      await using file = await openRegular(real);
      const { size } = await file.stat();
      if (size > MAX_CONTENT_BYTES) {
        throw new ApiProblem(
          "script_too_large",
          `path: the script has ${size} bytes; at most ${MAX_CONTENT_BYTES} are shown`,
        );
      }
      const bytes = await file.readFile();
      return { path: real, content: new TextDecoder().decode(bytes), size: bytes.length };
    },

    /** Looks at a script that is about to run. */
    async approve(path: string): Promise<ApprovedScript> {
      const real = await confineScript(path);
      await using file = await openRegular(real);
      const stats = await file.stat({ bigint: true });
      const { sha256, head } = await digest(file);
      return {
        path: real,
        sha256,
        executable: (stats.mode & 0o111n) !== 0n,
        shebang: /^#![ \t]*([^\n]+)/.exec(head)?.[1],
        version: versionOf(stats),
      };
    },

    /** True while the script is still the file, with the bytes, that was approved. */
    async isUnchanged(script: ApprovedScript): Promise<boolean> {
      const [real, stats] = await Promise.all([
        realpath(script.path).catch(() => undefined),
        lstat(script.path, { bigint: true }).catch(() => undefined),
      ]);
      return real === script.path && stats !== undefined && versionOf(stats) === script.version;
    },
  };
}

function forbidden(): ApiProblem {
  return new ApiProblem(
    "path_forbidden",
    "path: only .sh files inside the script roots are open; GET /api/v1/scripts lists them",
  );
}

function isInside(roots: readonly string[]): (real: string) => boolean {
  return (real) =>
    roots.some((root) => real === root || real.startsWith(root.endsWith(sep) ? root : root + sep));
}

/** True when nothing is at `path`, and the folder it would lie in is inside. */
async function isMissingInside(path: string, inside: (real: string) => boolean): Promise<boolean> {
  let ancestor = normalize(path);
  for (;;) {
    const exists = await lstat(ancestor).then(
      () => true,
      (error: NodeJS.ErrnoException) =>
        error.code === "ENOENT" || error.code === "ENOTDIR" ? false : undefined,
    );
    if (exists === undefined) return false;
    if (exists) {
      // A dangling link has no real path: what it points at is outside, or nothing.
      const real = await realpath(ancestor).catch(() => undefined);
      return real !== undefined && inside(real);
    }
    if (ancestor === dirname(ancestor)) return false;
    ancestor = dirname(ancestor);
  }
}

async function openRegular(real: string): Promise<FileHandle> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const file = await open(real, flags).catch((error: unknown) => {
    throw isUnableToLook(error) ? error : forbidden();
  });
  if ((await file.stat()).isFile()) return file;
  await file.close();
  throw forbidden();
}

async function digest(file: FileHandle): Promise<{ sha256: string; head: string }> {
  const hash = createHash("sha256");
  const buffer = Buffer.allocUnsafe(65_536);
  let head: string | undefined;
  for (;;) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
    const bytes = buffer.subarray(0, bytesRead);
    head ??= bytes.toString("latin1", 0, Math.min(bytesRead, 256));
    if (bytesRead === 0) return { sha256: hash.digest("hex"), head };
    hash.update(bytes);
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
