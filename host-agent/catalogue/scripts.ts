import { createHash } from "node:crypto";
import { fstatSync, lstatSync, readFileSync, readSync } from "node:fs";
import { readdir, realpath, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";

import { isUnableToLook } from "../system/exhaustion.ts";
import { type OpenFile, openFile } from "../system/open-file.ts";
import { ApiProblem } from "../protocol/problem.ts";
import type { ScriptContent, ScriptEntry, ScriptList } from "../protocol/script.ts";
import type { LeftOut } from "./left-out.ts";
import { forbidden, realPathOf, scriptRoots } from "./script-roots.ts";

/** A script that a launch may run: its real path, and a digest of its bytes at the time of approval. */
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
  /** Stays equal while the file is neither replaced nor changed. */
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
export function openScripts(roots: readonly string[], leftOut?: LeftOut) {
  const root = scriptRoots(roots, leftOut);

  function confineScript(path: string): string {
    if (!path.endsWith(".sh")) throw forbidden("must end in .sh, as all scripts do");
    const real = root.confine(path);
    if (!real.endsWith(".sh")) throw forbidden();
    return real;
  }

  return {
    /** Lists the scripts under a folder inside the roots; under all the roots without one. */
    async list(path?: string): Promise<ScriptList> {
      const folders = path === undefined ? root.real() : [root.confine(path)];
      if (path !== undefined && !(await stat(folders[0]!)).isDirectory()) {
        throw new ApiProblem("script_not_found", "path: this path is not a folder");
      }
      return listScripts(folders, root.inside());
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

    /** Checks and digests a script that is about to run. Throws `path_forbidden` and `script_not_found`. */
    async approve(path: string): Promise<ApprovedScript> {
      const real = confineScript(path);
      using file = openScript(real);
      // Before the digest: a change while the bytes are read must not pass for the approved file.
      const version = versionOf(fstatSync(file.fd, { bigint: true }));
      const { sha256, head } = await digest(file.fd);
      return {
        path: real,
        folder: dirname(real),
        name: basename(real, ".sh"),
        sha256,
        executable: (file.stats.mode & 0o111) !== 0,
        shebang: /^#![ \t]*([^\n]+)/.exec(head)?.[1],
        version,
      };
    },

    /** True while the path still leads to the approved file with its approved bytes. */
    isUnchanged(script: ApprovedScript): boolean {
      if (realPathOf(script.path) !== script.path) return false;
      const stats = lstatSync(script.path, { bigint: true, throwIfNoEntry: false });
      return stats !== undefined && versionOf(stats) === script.version;
    },
  };
}

/** Throws `path_forbidden` for anything but a regular file that the agent can read. */
function openScript(real: string): OpenFile {
  try {
    return openFile(real);
  } catch (error) {
    throw isUnableToLook(error) ? error : forbidden();
  }
}

/** After this many bytes the reading continues in the next turn of the event loop: a huge script must not block the others. */
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
