import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { processesOf } from "../../host-agent/inspection.ts";
import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { sha256 } from "../../host-agent/system/sha256.ts";
import { hubCalls, type LaunchAnswer, type LaunchOptions } from "./hub-calls.ts";

const NODE_TS = fileURLToPath(new URL("../node/node.ts", import.meta.url));
const LOOK_INTERVAL_MS = 15;
const PATIENCE_MS = 5_000;
/** A busy host may take several seconds to start a program. */
const START_PATIENCE_MS = 10_000;
/** A variable of the server's environment, which no run may see. */
const SECRET_VARIABLE = "HUB_DOCTOR_SECRET";

/** A running scratch Hub. */
export type ScratchHub = Awaited<ReturnType<typeof startScratchHub>>;

/**
 * Starts a real server in a separate process, on a free port of loopback, with its
 * state, keys and scripts in a temporary folder. Disposing of it ends all its
 * processes and removes the folder.
 */
export async function startScratchHub() {
  // Undone in reverse order: when a later step fails, and when the hub is disposed of.
  await using opened = new AsyncDisposableStack();
  const dir = realpathSync(mkdtempSync(join(tmpdir(), "hub-doctor-")));
  opened.defer(() => rmSync(dir, { recursive: true, force: true }));
  const { env, root, key, secret } = prepareFolder(dir);
  const runIds = new Set<string>();
  let server: Server | undefined;

  const calls = hubCalls(() => server!.url, key);

  opened.defer(async () => {
    for (const runId of runIds) await endRun(runId);
  });
  opened.defer(() => endServer(server, "SIGKILL"));

  const hub = {
    ...calls,
    dir,
    secret,
    /** Writes an executable script, and returns its path. */
    script(name: string, text: string): string {
      const path = join(root, name);
      writeFileSync(path, `#!/bin/bash\n${text}\n`);
      chmodSync(path, 0o755);
      return path;
    },
    async launch(path: string, options?: LaunchOptions): Promise<LaunchAnswer> {
      const answer = await calls.launch(path, options);
      if (answer.run) runIds.add(answer.run.run_id);
      return answer;
    },
    /** Launches a script that must start. */
    async run(path: string, options?: LaunchOptions): Promise<string> {
      const { status, run, detail } = await hub.launch(path, options);
      if (!run) throw new Error(`a launch was answered ${status}: ${detail}`);
      return run.run_id;
    },
    ended: (runId: string): Promise<RunRecord> =>
      eventually(async () => {
        const record = await hub.record(runId);
        return record.ended_at === null ? undefined : record;
      }),
    /** The whole log, in pages of `maxBytes`. */
    async log(runId: string, maxBytes = 65_536): Promise<string> {
      let text = "";
      for (let after = 0, more = true; more;) {
        const page = await hub.page(runId, { after, maxBytes });
        text += page.chunk;
        ({ offset: after, more } = page);
      }
      return text;
    },
    /** Ends the server as a crash does, and starts it again with the same state. */
    async crash(): Promise<void> {
      await endServer(server, "SIGKILL");
      server = await startServer(env);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
  server = await startServer(env);
  const owned = opened.move();
  return hub;
}

/** Creates the script root and the keys file, with one key. */
function prepareFolder(dir: string) {
  const root = join(dir, "scripts");
  mkdirSync(root);
  const key = `sk_doctor_${randomBytes(24).toString("base64url")}`;
  const secret = randomBytes(16).toString("hex");
  const keysFile = join(dir, "keys.json");
  const keys = [{ name: "doctor", key_sha256: sha256(key), scopes: ["*"] }];
  writeFileSync(keysFile, JSON.stringify({ keys }), { mode: 0o600 });
  const env = {
    PATH: process.env["PATH"] ?? "/usr/bin:/bin",
    HUB_HOST: "127.0.0.1",
    HUB_PORT: "0",
    HUB_STATE_DIR: join(dir, "state"),
    // The trial of a large log must not reach the log limit.
    HUB_MAX_LOG_BYTES: "0",
    HUB_SCRIPT_ROOTS: root,
    HUB_KEYS_FILE: keysFile,
    [SECRET_VARIABLE]: secret,
  };
  return { env, root, key, secret };
}

interface Server {
  child: ChildProcess;
  url: string;
}

async function startServer(env: Record<string, string>): Promise<Server> {
  const child = spawn(process.execPath, [NODE_TS], { env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += String(chunk)));
  try {
    const url = await eventually(() => {
      if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}: ${output}`);
      return /^ *address +(\S+)$/m.exec(output)?.[1];
    }, START_PATIENCE_MS);
    return { child, url };
  } catch (error) {
    await endServer({ child, url: "" }, "SIGKILL");
    throw error;
  }
}

async function endServer(server: Server | undefined, signal: NodeJS.Signals): Promise<void> {
  const { child } = server ?? {};
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill(signal);
  await ended;
}

/** Ends all processes of a run. */
async function endRun(runId: string): Promise<void> {
  await eventually(() => {
    const left = processesOf(runId);
    for (const { pid } of left) endProcess(pid);
    return left.length === 0 || undefined;
  });
}

function endProcess(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended already.
  }
}

/** Calls `look` until it returns a value; rejects after `patienceMs`. */
export async function eventually<T>(
  look: () => T | undefined | Promise<T | undefined>,
  patienceMs = PATIENCE_MS,
): Promise<T> {
  const deadline = performance.now() + patienceMs;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > deadline) throw new Error(`it did not happen within ${patienceMs / 1000} s`);
    await sleep(LOOK_INTERVAL_MS);
  }
}
