import { chmod, mkdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

import { jsonFault } from "../../host-agent/protocol/json-fault.ts";
import { usageError } from "./exit.ts";

/** A Hub and the key for it. */
export interface Host {
  /** Without a slash at the end, and without /api/v1. */
  url: string;
  key: string | undefined;
  /** Its name in the hosts file, when `--host` chose it. */
  name?: string;
  /** No Hub was named: this is where `npm start` listens by default. */
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
 * Which Hub to use: the one named by `--host`, or HUB_URL, or the default of the
 * hosts file, or this machine, in this order. HUB_KEY has priority over a stored
 * key; a stored key is only sent to the address that it was stored for.
 */
export async function chooseHost(env: Env, name: string | undefined): Promise<Host> {
  const file = await readHosts(hostsPath(env));
  if (name !== undefined) {
    const stored = ownHost(file, name);
    if (!stored)
      throw usageError(`there is no host named ${name}. Store it with \`hub login --host ${name}\``);
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

/** The hosts file, in the user's configuration folder. */
export function hostsPath(env: Env): string {
  return join(
    env["XDG_CONFIG_HOME"] || join(env["HOME"] || ownHome(), ".config"),
    "serveraihub",
    "hosts.json",
  );
}

/** The user's home folder; `/`, as in a shell, for a user without one. */
function ownHome(): string {
  try {
    return homedir();
  } catch {
    return "/";
  }
}

/** The stored host of this name, if there is one. */
export function ownHost(file: HostsFile, name: string) {
  return Object.hasOwn(file.hosts, name) ? file.hosts[name] : undefined;
}

/** The stored hosts; none when there is no file. Throws a usage error for a file that other users can read. */
export async function readHosts(path: string): Promise<HostsFile> {
  let text: string;
  try {
    if (((await stat(path)).mode & OTHERS_MAY_ACCESS) !== 0) {
      throw usageError(`${path} contains keys, but other users can read it. Run \`chmod 600 ${path}\``);
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
  // Editors on Windows put a byte order mark before the text.
  const plain = text.replace(/^\uFEFF/, "");
  let broken = usageError(
    `${path} is not a hosts file of \`hub login\`: fix it, or remove it and log in again`,
  );
  try {
    const file = JSON.parse(plain) as HostsFile;
    const isWhole = Object.values(file.hosts).every(
      (host) => typeof host.url === "string" && typeof host.key === "string",
    );
    if (isWhole) return file;
  } catch (error) {
    if (error instanceof SyntaxError)
      broken = usageError(
        `${path}: ${jsonFault(error, plain)}, or remove the file and run \`hub login\` again`,
      );
  }
  throw broken;
}

/** Replaces the file in one step; only its owner can read it. */
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

/** An address in the form that is stored. Throws a usage error that names `origin`. */
export function checkUrl(text: string, origin: string): string {
  const url = URL.parse(withScheme(text));
  if (!url || !/^https?:$/.test(url.protocol) || url.hostname === "") {
    throw usageError(
      `${origin} must be an address such as https://hub.example.com, but it is ${JSON.stringify(text)}`,
    );
  }
  if (url.username || url.password || url.search || url.hash) {
    throw usageError(`${origin} must be an address only, without user, query or fragment`);
  }
  return (url.origin + url.pathname).replace(/(?:\/api\/v1)?\/*$/, "");
}

/** `hub.example.com:8443` is meant as https, and a port of this machine, which has no certificate, as http. */
function withScheme(text: string): string {
  if (!/^(?:\[[0-9a-f:]+\]|[a-z0-9.-]+)(?::\d{1,5})?(?:\/|$)/i.test(text)) return text;
  const isLocal = isLoopback(URL.parse(`http://${text}`)?.hostname ?? "");
  return `${isLocal ? "http" : "https"}://${text}`;
}

/** True for a host name of a URL that only this machine can reach: not for `localhost.example.com`. */
export function isLoopback(hostname: string): boolean {
  return /^(?:localhost|\[::1\]|127(?:\.\d{1,3}){3})$/.test(hostname);
}

/** Throws a usage error for a key that a header cannot carry. */
export function checkKey(key: string): void {
  if (!/^[\x21-\x7e]+$/.test(key)) throw usageError("the API key must be printable ASCII without spaces");
}
