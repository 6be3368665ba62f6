import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { COMPILE_CACHE } from "./compile-cache.ts";
import type { Deploy } from "./hub.ts";

const NODE_TS = fileURLToPath(new URL("../../adapters/node/node.ts", import.meta.url));

export type StopSignal = "SIGTERM" | "SIGINT" | "SIGKILL";

/** What is left of a server that has ended. */
export interface Ended {
  code: number | null;
  signal: string | null;
  /** All that it printed, on both streams. */
  output: string;
}

/** Starts the Node adapter as a separate process, as this user and by the command `prefix`, whether it comes to serve or not. */
export function spawnServer(env: Record<string, string>, uid?: number, prefix: readonly string[] = []) {
  const words = [...prefix, process.execPath, NODE_TS];
  const child = spawn(words[0]!, words.slice(1), {
    env: { PATH: process.env["PATH"] ?? "", HUB_PORT: "0", ...COMPILE_CACHE, ...env },
    stdio: ["ignore", "pipe", "pipe"],
    ...(uid !== undefined && { uid, gid: uid }),
  });
  const output = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk) => (output.stdout += String(chunk)));
  child.stderr.on("data", (chunk) => (output.stderr += String(chunk)));
  const exitCode = once(child, "close").then(() => child.exitCode);
  return { child, output, exitCode };
}

/** Resolves with the address that the server prints; rejects when it ends without one. */
async function announcedUrl({ child, output, exitCode }: ReturnType<typeof spawnServer>): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  child.stdout.on("data", () => {
    const url = /^ *address +(http:\S+)$/m.exec(output.stdout)?.[1];
    if (url !== undefined) resolve(url);
  });
  void exitCode.then((code) =>
    reject(new Error(`the server ended with ${code} before it listened: ${output.stderr}`)),
  );
  return promise;
}

/** The Node adapter as a separate process, ready to serve. Disposing it ends it. */
export async function startServerProcess(env: Record<string, string>) {
  const server = spawnServer(env);
  const url = await announcedUrl(server);
  return {
    url,
    output: server.output,
    memoryBytes: () => residentBytes(server.child),
    async [Symbol.asyncDispose](): Promise<void> {
      server.child.kill("SIGTERM");
      await server.exitCode;
    },
  };
}

/**
 * The Node adapter as a separate process, so that it can be measured and
 * killed. `stop` sends `stopSignal`: with SIGKILL, a restart is a crash.
 * `onStart` learns the pid of each server, `uid` is whom it runs as, and `prefix` the command that starts it.
 */
export function serverProcess({
  stopSignal,
  onStart = () => {},
  uid,
  prefix,
}: {
  stopSignal: StopSignal;
  onStart?: (pid: number) => void;
  uid?: number;
  prefix?: readonly string[];
}): Deploy {
  return async ({ env }) => {
    const server = spawnServer(env, uid, prefix);
    onStart(server.child.pid!);
    return { url: await announcedUrl(server), stop: async () => void (await end(server, stopSignal)) };
  };
}

/** One after the other, servers as processes of their own: what they lose with a signal is lost. */
export function serverProcesses() {
  let current: ReturnType<typeof spawnServer> | undefined;
  const deploy: Deploy = async ({ env }) => {
    current = spawnServer(env);
    return { url: await announcedUrl(current), stop: async () => void (await end(current!, "SIGTERM")) };
  };
  return { deploy, end: (signal: StopSignal) => end(current!, signal) };
}

async function end(
  { child, output, exitCode }: ReturnType<typeof spawnServer>,
  signal: StopSignal,
): Promise<Ended> {
  child.kill(signal);
  await exitCode;
  return { code: child.exitCode, signal: child.signalCode, output: output.stdout + output.stderr };
}

function residentBytes({ pid }: ChildProcess): number {
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kilobytes) * 1024;
}
