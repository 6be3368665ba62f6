import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { until } from "./hub.ts";

const NODE_ADAPTER = fileURLToPath(new URL("../adapters/node.ts", import.meta.url));

export type ServerProcess = Awaited<ReturnType<typeof startServerProcess>>;

/** A start of the Node adapter as a process of its own: what it prints, and its exit code when it ends. */
export function spawnServer(env: Record<string, string>) {
  const child = spawn(process.execPath, [NODE_ADAPTER], {
    env: { PATH: process.env["PATH"] ?? "", HUB_PORT: "0", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk) => (output.stdout += String(chunk)));
  child.stderr.on("data", (chunk) => (output.stderr += String(chunk)));
  const exitCode = new Promise<number | null>((resolve) => child.once("close", resolve));
  return { child, output, exitCode };
}

/** The Node adapter as a process of its own, ready to serve. Disposing it ends it. */
export async function startServerProcess(env: Record<string, string>) {
  const { child, output, exitCode } = spawnServer(env);
  const url = await until(() => {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}: ${output.stderr}`);
    return /address +(http:\S+)/.exec(output.stdout)?.[1];
  });
  return {
    url,
    output,
    memoryBytes: () => residentBytes(child),
    async [Symbol.asyncDispose](): Promise<void> {
      child.kill("SIGTERM");
      await exitCode;
    },
  };
}

function residentBytes({ pid }: ChildProcess): number {
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kilobytes) * 1024;
}
