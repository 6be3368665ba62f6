import { chmod, mkdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

import { usageError } from "./exit.ts";

/** A Hub and the key to ask it with. */
export interface Host {
  /** Without a slash at the end, and without /api/v1. */
  url: string;
  key: string | undefined;
  /** Its name in the hosts file, when it was taken from there by `--host`. */
  name?: string;
  /** Nobody said which Hub: it is where `npm start` would listen. */
  isGuess?: true;
}

/** What `hub login` keeps. */
export interface HostsFile {
  default: string | undefined;
  hosts: Record<string, { url: string; key: string }>;
}

export type Env = Readonly<Record<string, string | undefined>>;

/** Where `npm start` listens. */
const LOCAL_URL = "http://127.0.0.1:8787";
const OTHERS_MAY_ACCESS = 0o077;

/**
 * Which Hub to ask: the one named by `--host`, else HUB_URL, else the default of
 * the hosts file, else this machine. HUB_KEY goes before a stored key; a stored
 * key is only ever sent to the address that it was stored for.
 */
export async function chooseHost(env: Env, name: string | undefined): Promise<Host> {
  const file = await readHosts(hostsPath(env));
  if (name !== undefined) {
    const stored = ownHost(file, name);
    if (!stored) throw usageError(`there is no host named ${name}; \`hub login --host ${name}\` stores it`);
    return { ...stored, name };
  }
  const key = env["HUB_KEY"] || undefined;
  if (key !== undefined) checkKey(key);
  if (env["HUB_URL"]) {
    const url = checkUrl(env["HUB_URL"], "HUB_URL");
    return { url, key: key ?? Object.values(file.hosts).find((host) => host.url === url)?.key };
  }
  const stored = file.default === undefined ? undefined : ownHost(file, file.default);
  return stored ? { url: stored.url, key: key ?? stored.key } : { url: LOCAL_URL, key, isGuess: true };
}

export function hostsPath(env: Env): string {
  return join(
    env["XDG_CONFIG_HOME"] || join(env["HOME"] || homedir(), ".config"),
    "serveraihub",
    "hosts.json",
  );
}

/** The stored host of this name. */
export function ownHost(file: HostsFile, name: string) {
  return Object.hasOwn(file.hosts, name) ? file.hosts[name] : undefined;
}

/** The stored hosts; none when there is no file. Refuses a file that others may read. */
export async function readHosts(path: string): Promise<HostsFile> {
  let text: string;
  try {
    if (((await stat(path)).mode & OTHERS_MAY_ACCESS) !== 0) {
      throw usageError(`${path} holds keys, but others may read it: chmod 600 it`);
    }
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return { default: undefined, hosts: {} };
    if (error instanceof Error && "code" in error) throw usageError(`cannot read ${path}: ${error.message}`);
    throw error;
  }
  return parseHosts(text, path);
}

function parseHosts(text: string, path: string): HostsFile {
  const broken = usageError(`${path} is not what \`hub login\` writes: mend or remove it`);
  try {
    const file = JSON.parse(text) as HostsFile;
    const isWhole = Object.values(file.hosts).every(
      (host) => typeof host.url === "string" && typeof host.key === "string",
    );
    if (isWhole) return file;
  } catch {
    throw broken;
  }
  throw broken;
}

/** Replaces the file in one step, for its owner only. */
export async function writeHosts(path: string, file: HostsFile): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const temporary = `${path}.${process.pid}`;
    await writeFile(temporary, `${JSON.stringify(file, null, 2)}\n`, { mode: 0o600 });
    await chmod(temporary, 0o600);
    await rename(temporary, path);
  } catch (error) {
    throw usageError(`cannot write ${path}: ${(error as Error).message}`);
  }
}

/** An address as it is kept. Throws a usage error that names where it came from. */
export function checkUrl(text: string, origin: string): string {
  const url = URL.parse(text);
  if (!url || !/^https?:$/.test(url.protocol) || url.hostname === "") {
    throw usageError(`${origin} must be like https://hub.example.com, but it is ${JSON.stringify(text)}`);
  }
  if (url.username || url.password || url.search || url.hash) {
    throw usageError(`${origin} must be an address only, without user, query or fragment`);
  }
  return (url.origin + url.pathname).replace(/(?:\/api\/v1)?\/*$/, "");
}

/** Refuses what no header could carry. */
export function checkKey(key: string): void {
  if (!/^[\x21-\x7e]+$/.test(key)) throw usageError("the API key must be printable ASCII without spaces");
}
