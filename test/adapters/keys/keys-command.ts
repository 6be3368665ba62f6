import { type ChildProcess, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { afterEach, beforeEach } from "vitest";

import type { KeyFileEntry } from "../../../handlers/keys.ts";
import { COMPILE_CACHE } from "../../support/compile-cache.ts";

const KEYS = fileURLToPath(new URL("../../../adapters/keys/cli.ts", import.meta.url));

/** The folder of this test, and the keys file in it. */
export let dir: string;
export let file: string;
/** Where no service answers, unless a test starts one. */
let servicePort = "1";

/** Gives each test of the file that calls this a separate folder. */
export function eachInItsFolder(): void {
  beforeEach(async () => {
    servicePort = "1";
    dir = await mkdtemp(join(tmpdir(), "keys-"));
    file = join(dir, "keys.json");
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));
}

/** Lets the rest of the test use another keys file. */
export function useFile(path: string): void {
  file = path;
}

/** The port at which the command finds a service. */
export function setServicePort(port: string): void {
  servicePort = port;
}

export function start(...args: string[]): ChildProcess {
  return spawn(process.execPath, [KEYS, ...args], {
    env: { ...COMPILE_CACHE, HUB_KEYS_FILE: file, HUB_PORT: servicePort },
    stdio: ["pipe", "pipe", "pipe"],
  });
}

/** Runs the command to its end: its exit code, and what it printed. */
export async function keys(...args: string[]) {
  return resultOf(start(...args));
}

/** Runs `check` with this key on its standard input. */
export async function check(key: string) {
  const child = start("check");
  child.stdin!.end(`${key}\n`);
  return resultOf(child);
}

export async function resultOf(child: ChildProcess) {
  let [stdout, stderr] = ["", ""];
  child.stdout!.on("data", (chunk) => (stdout += String(chunk)));
  child.stderr!.on("data", (chunk) => (stderr += String(chunk)));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, stdout, stderr };
}

export const create = (name: string, ...more: string[]) =>
  keys("create", "--name", name, "--scopes", "pipelines:read,scripts:write", ...more);
export const stored = async (): Promise<{ keys: KeyFileEntry[] }> => JSON.parse(await readFile(file, "utf8"));
