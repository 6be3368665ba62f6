import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { Agent, request } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { COMPILE_CACHE } from "../support/compile-cache.ts";
import { childrenOf } from "./run-processes.ts";

const NODE_ADAPTER = fileURLToPath(new URL("../../adapters/node/node.ts", import.meta.url));
const KEY = "sk_bench_0123456789abcdef0123456789abcdef";
/** A second key: one may have only half of the places of waiting requests. */
export const OTHER_KEY = `${KEY}0`;
const TRUE_SCRIPT = "#!/bin/sh\nexec /bin/true\n";

const LOOP_DELAY = new URL("loop-delay.ts", import.meta.url).href;

/** A server of the product, in a separate process, on a separate state folder; `env` is added to its settings. */
export async function startServer(env: Record<string, string> = {}) {
  const dir = await mkdtemp(join(tmpdir(), "hub-bench-"));
  const port = await freePort();
  const script = join(dir, "true.sh");
  const keys = [
    { name: "bench", key: KEY, scopes: ["*"] },
    { name: "other", key: OTHER_KEY, scopes: ["*"] },
  ];
  await writeFile(join(dir, "keys.json"), JSON.stringify({ keys }));
  await writeFile(script, TRUE_SCRIPT, { mode: 0o755 });
  await writeFile(join(dir, "sleep.sh"), "#!/bin/sh\nexec sleep 600\n", { mode: 0o755 });

  async function start() {
    const child = spawn(
      process.execPath,
      ["--max-semi-space-size=2", "--heap-growing-percent=30", "--import", LOOP_DELAY, NODE_ADAPTER],
      {
        stdio: ["ignore", "pipe", "ignore", "ipc"],
        env: {
          PATH: process.env["PATH"],
          HUB_PORT: String(port),
          HUB_STATE_DIR: join(dir, "state"),
          HUB_KEYS_FILE: join(dir, "keys.json"),
          HUB_SCRIPT_ROOTS: dir,
          HUB_MAX_RUNNING: "2000",
          HUB_MAX_LOG_BYTES: "0",
          HUB_KEEP_RUNS_DAYS: "0",
          ...COMPILE_CACHE,
          ...env,
        },
      },
    );
    await once(child.stdout!, "data");
    return child;
  }
  let child = await start();
  const url = `http://127.0.0.1:${port}`;
  const headers = { authorization: `Bearer ${KEY}`, "content-type": "application/json" };

  return {
    url,
    dir,
    headers,
    script,
    stateDir: join(dir, "state"),
    get pid() {
      return child.pid!;
    },
    async launch(path = script): Promise<{ run_id: string; pid: string }> {
      const { status, text } = await post(`${url}/api/v1/scripts/runs`, headers, JSON.stringify({ path }));
      if (status !== 201) throw new Error(`launch: ${status} ${text}`);
      return JSON.parse(text) as { run_id: string; pid: string };
    },
    /** How long the server's event loop was held at most while `work` ran, in milliseconds. */
    async worstDelay(work: () => Promise<void>): Promise<number> {
      child.send("start");
      await work();
      child.send("stop");
      const [{ worstMs }] = (await once(child, "message")) as [{ worstMs: number }];
      return worstMs;
    },
    async get(path: string) {
      const response = await fetch(url + path, { headers });
      return (await response.json()) as Record<string, never>;
    },
    /** Stops the server, works on its state, and starts it again. Returns how long the start took, in milliseconds. */
    async restart(between: () => Promise<void>): Promise<number> {
      await end();
      await between();
      const begin = performance.now();
      child = await start();
      return performance.now() - begin;
    },
    async [Symbol.asyncDispose](): Promise<void> {
      await end();
      await rm(dir, { recursive: true, force: true });
    },
  };

  async function end(): Promise<void> {
    child.kill("SIGTERM");
    if (child.exitCode === null) await once(child, "exit");
  }
}

const connections = new Agent({ keepAlive: true });

/** CPU time that a process has used, children left out, in milliseconds (proc_pid_stat(5), 100 ticks a second). */
export function cpuMs(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** The processes of a server: itself and those that it has started and that have not left it, as its spawner. */
export function processesOf(pid: number): number[] {
  return [pid, ...childrenOf(pid)];
}

/** POST with little more than the time on the wire, so that what is measured is the server. */
async function post(url: string, headers: Record<string, string>, body: string) {
  return new Promise<{ status: number; text: string }>((resolve, reject) => {
    const outgoing = request(url, { method: "POST", agent: connections, headers }, (incoming) => {
      let text = "";
      incoming.setEncoding("utf8");
      incoming.on("data", (chunk: string) => (text += chunk));
      incoming.on("end", () => resolve({ status: incoming.statusCode!, text }));
      incoming.on("error", reject);
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

/**
 * Resident memory of a server with its spawner, in MB (proc_pid_status(5)): all that
 * the server has, and what the spawner has for itself. Node's own code is in both,
 * and in memory once.
 */
export function residentMb(pid: number): number {
  const ownKb = childrenOf(pid).map((child) => statusKb(child, "RssAnon"));
  return [statusKb(pid, "VmRSS"), ...ownKb].reduce((sum, kb) => sum + kb, 0) / 1024;
}

function statusKb(pid: number, field: string): number {
  const line = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m");
  return Number(line.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]);
}

export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  return port;
}
