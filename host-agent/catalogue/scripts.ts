import { createHash } from "node:crypto";
import { type Dirent, fstatSync, lstatSync, readFileSync, readSync } from "node:fs";
import { opendir, realpath, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";

import { isUnableToLook } from "../system/exhaustion.ts";
import { type OpenFile, openFile } from "../system/open-file.ts";
import { ApiProblem } from "../protocol/problem.ts";
import type { ScriptContent, ScriptEntry, ScriptList } from "../protocol/script.ts";
import { forbidden, realPathOf, scriptRoots } from "./script-roots.ts";
import { shareWalks } from "./share-walks.ts";

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
/** Of all files and folders in the folders of a list: further ones are not looked at. */
const MAX_ENTRIES = 500_000;
const MAX_CONTENT_BYTES = 1_048_576;
/** A larger one is not launched: it would be hashed at every launch and every preview. */
const MAX_SCRIPT_BYTES = 268_435_456;

export type Scripts = ReturnType<typeof openScripts>;

/**
 * The `.sh` files inside the roots, and nothing else of the host. Whether
 * something outside them exists cannot be learned: it is always `path_forbidden`.
 */
export function openScripts(roots: readonly string[]) {
  const root = scriptRoots(roots);

  function confineScript(path: string): string {
    if (!path.endsWith(".sh")) throw forbidden("must end in .sh, as all scripts do");
    const real = root.confine(path);
    if (!real.endsWith(".sh")) throw forbidden();
    return real;
  }

  async function list(path?: string): Promise<ScriptList> {
    const folders = path === undefined ? root.real() : [root.confine(path)];
    if (path !== undefined && !(await stat(folders[0]!)).isDirectory()) {
      throw new ApiProblem("script_not_found", "path: this path is not a folder");
    }
    return listScripts(folders, root.inside());
  }

  const listShared = shareWalks(list);
  return {
    /** Lists the scripts under a folder inside the roots; under all the roots without one. */
    list: (path?: string): Promise<ScriptList> => listShared(path),

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
      if (file.stats.size > MAX_SCRIPT_BYTES) throw tooLargeToLaunch();
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
    // It may grow while it is read.
    if (total > MAX_SCRIPT_BYTES) throw tooLargeToLaunch();
    if (total % BYTES_PER_TURN === 0) await nextTurn();
  }
}

function tooLargeToLaunch(): ApiProblem {
  return new ApiProblem(
    "launch_failed",
    `path: the script has more than ${MAX_SCRIPT_BYTES} bytes, the largest that is launched. Keep its data in another file`,
  );
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
  const budget = { entries: MAX_ENTRIES };
  while (queue.length > 0) {
    const folder = queue.shift()!;
    if (seen.has(folder)) continue;
    if (seen.size === MAX_FOLDERS) return { scripts, truncated: true };
    seen.add(folder);
    for (const entry of await listedEntries(folder, budget)) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) queue.push(path);
      else {
        const script = await describeScript(path, inside);
        if (script && scripts.length === MAX_LISTED) return { scripts, truncated: true };
        if (script) scripts.push(script);
      }
    }
  }
  return { scripts, truncated: budget.entries < 0 };
}

/**
 * The folders and scripts in a folder, by name. It is read as a stream, so that a folder with any number of other files
 * neither blocks the agent nor fills its memory. Of one that cannot be read, what was read.
 */
async function listedEntries(folder: string, budget: { entries: number }): Promise<Dirent[]> {
  const listed: Dirent[] = [];
  try {
    for await (const entry of await opendir(folder, { bufferSize: 512 })) {
      if (budget.entries-- <= 0) break;
      if (isListed(entry)) listed.push(entry);
    }
  } catch (error) {
    if (isUnableToLook(error)) throw error;
  }
  return listed.toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

function isListed(entry: Dirent): boolean {
  if (!entry.isDirectory()) return entry.name.endsWith(".sh");
  return !entry.name.startsWith(".") && entry.name !== "node_modules";
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
