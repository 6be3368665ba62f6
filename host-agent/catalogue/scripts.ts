import { createHash } from "node:crypto";
import {
  accessSync,
  type BigIntStats,
  constants,
  type Dirent,
  fstatSync,
  lstatSync,
  readFileSync,
  readSync,
  statSync,
} from "node:fs";
import { lstat, opendir } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";

import { isUnableToLook } from "../system/exhaustion.ts";
import { toDateRange } from "../system/file-time.ts";
import { NotRegularFile, type OpenFile, openFile } from "../system/open-file.ts";
import { readFirstLine } from "../system/shebang.ts";
import { ApiProblem } from "../protocol/problem.ts";
import { type Reach, reachesBelow, reachesScript } from "../protocol/reach.ts";
import type { ScriptContent, ScriptEntry, ScriptList } from "../protocol/script.ts";
import { MARKERS_OFF_BYTES, turnsMarkersOff } from "./error-markers.ts";
import type { LeftOut } from "./left-out.ts";
import { forbidden, looking, notFound, type ScriptRoots, scriptRoots } from "./script-roots.ts";
import { shareWalks } from "./share-walks.ts";

interface FileVersion {
  /** Stays equal while the file is neither replaced nor changed. */
  full: string;
  /** Stays equal while it is the same file of the same size. */
  file: string;
}

/** A script that a launch may run: its real path, and a digest of its bytes at the time of approval. */
export interface ApprovedScript {
  path: string;
  /** The folder it is in. */
  folder: string;
  /** Its file name without `.sh`. */
  name: string;
  sha256: string;
  /** The words that run it, before its arguments. */
  command: string[];
  /** Why it cannot run, in words that fit behind "it"; undefined when nothing is known against it. */
  fault: string | undefined;
  version: FileVersion;
  /** Differs when a file of its folder was created, renamed or removed. */
  folderVersion: string;
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
export function openScripts(roots: readonly string[], leftOut?: LeftOut) {
  const root = scriptRoots(roots, leftOut);

  function confineScript(path: string, reach?: Reach): string {
    if (!path.endsWith(".sh")) throw forbidden("must end in .sh, as all scripts do");
    const real = root.confine(path, "script", (end) => reachesScript(reach, end));
    if (!real.endsWith(".sh")) throw forbidden();
    return real;
  }

  async function list(path?: string, reach?: Reach): Promise<ScriptList> {
    if (path === undefined) return listScripts(root.real(), root, reach);
    const folder = root.confine(path, "folder", (end) => reachesBelow(reach, end));
    const stats = looking(() => lstatSync(folder));
    if (!stats?.isDirectory()) throw notFound("folder");
    return listScripts([folder], root, reach);
  }

  const shared = shareWalks<ScriptList>();
  return {
    /** Lists the scripts in reach under a folder inside the roots; under all the roots without one. */
    list: (path?: string, reach?: Reach): Promise<ScriptList> =>
      // Callers that reach other scripts have other lists.
      shared(JSON.stringify([path, reach?.script_paths]), () => list(path, reach)),

    /** Reads the source of a script in reach, at most 1 MiB of it. */
    async read(path: string, reach?: Reach): Promise<ScriptContent> {
      const real = confineScript(path, reach);
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

    /** Checks and digests a script in reach that is about to run. Throws `path_forbidden` and `script_not_found`. */
    async approve(path: string, reach?: Reach): Promise<ApprovedScript> {
      const real = confineScript(path, reach);
      using file = openScript(real);
      if (file.stats.size > MAX_SCRIPT_BYTES) throw tooLargeToLaunch();
      // Before the digest: a change while the bytes are read must not pass for the approved file.
      const version = versionOf(fstatSync(file.fd, { bigint: true }));
      const folderVersion = folderVersionOf(real);
      const { sha256, head } = await digest(file.fd);
      return {
        path: real,
        folder: dirname(real),
        name: basename(real, ".sh"),
        sha256,
        ...howToRun(real, head),
        version,
        folderVersion,
      };
    },

    /**
     * True when the script, as it was launched, has the line `# hub: error-markers off` in its first bytes. False also when it was
     * changed since then, or cannot be read.
     */
    hasMarkersOff(path: string, sha256: string): boolean {
      try {
        using file = openScript(confineScript(path));
        const head = Buffer.alloc(MARKERS_OFF_BYTES);
        const length = readSync(file.fd, head, 0, head.length, 0);
        if (!turnsMarkersOff(head.toString("latin1", 0, length))) return false;
        if (file.stats.size > MAX_CONTENT_BYTES) return false;
        return createHash("sha256").update(readFileSync(file.fd)).digest("hex") === sha256;
      } catch (error) {
        if (isUnableToLook((error as { extras?: { cause?: unknown } }).extras?.cause)) throw error;
        return false;
      }
    },

    /**
     * True while the path still leads to the approved file with its approved bytes. A script may change its own metadata (chmod,
     * touch, a hard link in another folder), which changes its ctime: then its bytes are read again. Rejects with `host_unavailable`
     * when that cannot be known.
     */
    async isUnchanged(script: ApprovedScript): Promise<boolean> {
      try {
        if (root.confine(script.path, "script") !== script.path) return false;
        const stats = looking(() => lstatSync(script.path, { bigint: true }));
        if (!stats) return false;
        const version = versionOf(stats);
        if (version.full === script.version.full) return true;
        // Without an entry of the folder having changed: a file that was replaced and put back was something else in between.
        if (version.file !== script.version.file) return false;
        if (folderVersionOf(script.path) !== script.folderVersion) return false;
        using file = openScript(script.path);
        return (await digest(file.fd)).sha256 === script.sha256;
      } catch (error) {
        if (isPathProblem(error)) return false;
        throw error;
      }
    },
  };
}

/** Throws `path_forbidden` for anything but a regular file that the agent can read. */
function openScript(real: string): OpenFile {
  const file = looking(() => {
    try {
      return openFile(real);
    } catch (error) {
      throw error instanceof NotRegularFile ? forbidden() : error;
    }
  });
  if (!file) throw notFound("script");
  return file;
}

/** After this many bytes the reading continues in the next turn of the event loop: a huge script must not block the others. */
const BYTES_PER_TURN = 1_048_576;

/**
 * A script with an interpreter runs by itself if it may be executed, and else through its interpreter: without the x bit,
 * or on a file system that is mounted noexec. One without runs with bash.
 */
function howToRun(path: string, head: Uint8Array): Pick<ApprovedScript, "command" | "fault"> {
  const { interpreter, fault } = readFirstLine(head);
  if (!interpreter) return { command: ["/bin/bash", path], fault };
  if (mayExecute(path)) return { command: [path], fault };
  const [program, argument] = interpreter;
  return {
    command: [resolve(dirname(path), program), ...(argument === undefined ? [] : [argument]), path],
    fault,
  };
}

function mayExecute(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

async function digest(fd: number): Promise<{ sha256: string; head: Uint8Array }> {
  const hash = createHash("sha256");
  const buffer = Buffer.allocUnsafe(65_536);
  let head: Uint8Array | undefined;
  for (let total = 0; ;) {
    const length = readSync(fd, buffer, 0, buffer.length, null);
    const bytes = buffer.subarray(0, length);
    head ??= Uint8Array.from(bytes);
    if (length === 0) return { sha256: hash.digest("hex"), head };
    hash.update(bytes);
    total += length;
    // It may grow while it is read.
    if (total > MAX_SCRIPT_BYTES) throw tooLargeToLaunch();
    if (total % BYTES_PER_TURN === 0) await nextTurn();
  }
}

function versionOf({ dev, ino, size, ctimeNs }: BigIntStats): FileVersion {
  const file = `${dev}:${ino}:${size}`;
  return { full: `${file}:${ctimeNs}`, file };
}

function tooLargeToLaunch(): ApiProblem {
  return new ApiProblem(
    "launch_failed",
    `path: the script has more than ${MAX_SCRIPT_BYTES} bytes, the largest that is launched. Keep its data in another file`,
  );
}

function folderVersionOf(path: string): string {
  const stats = looking(() => statSync(dirname(path), { bigint: true }));
  return `${stats?.dev}:${stats?.ino}:${stats?.mtimeNs}`;
}

/** True for an error that says something about the path, and not that the host could not look. */
function isPathProblem(error: unknown): boolean {
  return error instanceof ApiProblem && ["path_forbidden", "script_not_found"].includes(error.code);
}

/**
 * The scripts in reach under these folders. Neither the name nor the target of a link may be out of reach. A folder in which nothing can
 * be in reach is not looked at, so that the bounds of a list count what its caller may see.
 */
async function listScripts(
  folders: readonly string[],
  root: ScriptRoots,
  reach: Reach | undefined,
): Promise<ScriptList> {
  const scripts: ScriptEntry[] = [];
  const seen = new Set<string>();
  const queue = [...folders];
  const budget = { entries: MAX_ENTRIES };
  const isLeftOut = root.leftOut();
  while (queue.length > 0) {
    const folder = queue.shift()!;
    if (seen.has(folder) || !reachesBelow(reach, folder)) continue;
    if (seen.size === MAX_FOLDERS) return { scripts, truncated: true };
    seen.add(folder);
    for (const entry of await listedEntries(folder, budget)) {
      const path = join(folder, entry.name);
      if (isLeftOut(path)) continue;
      if (entry.isDirectory()) queue.push(path);
      else {
        const real = entry.isSymbolicLink() ? targetOf(path, root) : path;
        if (!reachesScript(reach, path) || (real !== undefined && !reachesScript(reach, real))) continue;
        const script = await describeScript(real, path);
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

/** Where a link leads, if that is inside the roots. One that cannot be followed now costs its own line of the list only. */
function targetOf(link: string, root: ScriptRoots): string | undefined {
  try {
    return root.confine(link, "script");
  } catch (error) {
    if (error instanceof ApiProblem && !isUnableToLook(error.extras.cause)) return undefined;
    throw error;
  }
}

async function describeScript(real: string | undefined, path: string): Promise<ScriptEntry | undefined> {
  if (!real?.endsWith(".sh")) return undefined;
  const stats = await lstat(real).catch(() => undefined);
  if (!stats?.isFile()) return undefined;
  const modifiedAt = Math.floor(toDateRange(stats.mtimeMs) / 1000);
  return { path, name: basename(path), size: stats.size, modified_at: modifiedAt };
}
