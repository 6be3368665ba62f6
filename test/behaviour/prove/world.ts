import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { makeAgentKey, trustKey } from "../../../adapters/keys/agent-pair.ts";
import { missingForTerminal } from "../../../host-agent/executor/terminal-mode.ts";
import { type FileSystem, openBlockDevice } from "../../support/block-device.ts";
import { type Ahead, aheadText } from "./clock.ts";
import { blockDisk, openDisk } from "./disk.ts";
import { JOB_SH } from "./job.ts";
import { keep, type Keeper } from "./keeper.ts";
import { openLine } from "./line.ts";

export type Topology = "embedded" | "remote";

/** An answer of the API. */
export interface Reply {
  status: number;
  headers: Headers;
  // oxlint-disable-next-line typescript/no-explicit-any -- JSON of the public API
  json: any;
  bytes: Uint8Array;
}

/** The recipe of which the job is the command. */
export const RECIPE_ID = "job";

const KEY = "sk_prove_0123456789abcdef0123456789abcdef";
const ASK_PATIENCE_MS = 30_000;
/** Only a product that is stuck takes it, also on a host under heavy load. */
const START_PATIENCE_MS = 180_000;

export interface WorldOptions {
  topology: Topology;
  /** The user of the servers; undefined for this one. */
  uid?: number | undefined;
  /** The state is on an image with this file system, and its host can lose power; undefined for a disk that can be full. */
  fileSystem?: FileSystem | undefined;
}

/** Starts a server in a boot of the host that has the id in this file. */
const IN_BOOT = 'mount --bind "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@"';

export type World = Awaited<ReturnType<typeof createWorld>>;

/**
 * The product as it is deployed, on a separate disk, with a service manager
 * that starts again what dies: the API with its agent embedded, or with a remote
 * one behind a line that can be harmed.
 */
export async function createWorld({ topology, uid, fileSystem }: WorldOptions) {
  const dir = mkdtempSync(join(tmpdir(), `prove-${topology}-`));
  const device = fileSystem && openBlockDevice(fileSystem, dir);
  const disk = device ? blockDisk(fileSystem, device) : openDisk(join(dir, "disk"));
  const paths = {
    dir,
    stateDir: join(dir, "disk", "state"),
    script: join(dir, "scripts", "job.sh"),
    ledger: join(dir, "ledger"),
    clock: join(dir, "clock"),
  };
  mkdirSync(join(dir, "scripts"));
  writeFileSync(paths.script, JOB_SH, { mode: 0o755 });
  writeFileSync(paths.ledger, "");
  writeFileSync(paths.clock, aheadText({ passed: 0, set: 0 }));
  const recipe = { recipe_id: RECIPE_ID, title: "Job", description: "", command: [paths.script] };
  writeFileSync(join(dir, "recipes.json"), JSON.stringify({ recipes: [recipe] }));
  writeFileSync(
    join(dir, "keys.json"),
    JSON.stringify({ keys: [{ name: "prover", key: KEY, scopes: ["*"] }] }),
  );
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const env: Record<string, string> = {
    PATH: process.env["PATH"] ?? "/usr/bin:/bin",
    NODE_COMPILE_CACHE: join(tmpdir(), `prove-compile-cache-${uid ?? process.getuid?.() ?? ""}`),
    HUB_PORT: String(port),
    HUB_STATE_DIR: paths.stateDir,
    HUB_SCRIPT_ROOTS: join(dir, "scripts"),
    HUB_RECIPES_FILE: join(dir, "recipes.json"),
    HUB_KEYS_FILE: join(dir, "keys.json"),
  };

  const bootId = join(dir, "boot_id");
  const setBootId = () => writeFileSync(bootId, `${randomUUID()}\n`);
  setBootId();
  const prefix = device ? ["unshare", "--mount", "/bin/sh", "-c", IN_BOOT, "sh", bootId] : [];

  let agent: Keeper | undefined;
  let line: Awaited<ReturnType<typeof openLine>> | undefined;
  if (topology === "remote") {
    const key = await makeAgentKey();
    const { d: _secret, ...publicKey } = key;
    trustKey(join(dir, "trusted.json"), publicKey);
    writeFileSync(join(dir, "agent_key.json"), JSON.stringify(key), { mode: 0o600 });
    line = await openLine(join(dir, "line.sock"), join(dir, "agent.sock"));
    env["HUB_AGENT_LISTEN"] = `unix:${join(dir, "agent.sock")}`;
    env["HUB_AGENT_TRUST"] = join(dir, "trusted.json");
    // The harness's own, and the servers connect to it.
    chmodSync(join(dir, "line.sock"), 0o777);
    giveTo(uid, dir);
    agent = keep("agent", [main("agent-main.ts"), paths.clock], { env, prefix, uid });
    env["HUB_AGENT_URL"] = `unix:${join(dir, "line.sock")}`;
    env["HUB_AGENT_KEY"] = join(dir, "agent_key.json");
  }
  const hasTerminals = (await missingForTerminal()) === undefined;
  let ahead: Ahead = { passed: 0, set: 0 };
  /** By how much the wall clock ran ahead, at each time, since that was asked last. */
  let offsets = [0];
  giveTo(uid, dir);
  const api = keep("api", [main("api-main.ts"), paths.clock], { env, prefix, uid });
  const servers = agent ? [api, agent] : [api];

  async function ask(
    method: "GET" | "POST",
    path: string,
    body?: object,
    headers: Record<string, string> = {},
  ): Promise<Reply> {
    const response = await fetch(url + path, {
      method,
      signal: AbortSignal.timeout(ASK_PATIENCE_MS),
      headers: {
        authorization: `Bearer ${KEY}`,
        ...(body && { "content-type": "application/json" }),
        ...headers,
      },
      ...(body && { body: JSON.stringify(body) }),
    });
    const bytes = new Uint8Array(await response.arrayBuffer());
    const isJson = response.headers.get("content-type")?.includes("json") === true;
    const json: unknown = isJson ? JSON.parse(new TextDecoder().decode(bytes)) : undefined;
    return { status: response.status, headers: response.headers, json, bytes };
  }

  /** A GET by one who must have the answer: asked again while the API comes and goes. */
  async function read(path: string, headers?: Record<string, string>): Promise<Reply> {
    const giveUpAt = performance.now() + START_PATIENCE_MS;
    for (;;) {
      const answer = await ask("GET", path, undefined, headers).catch((error: unknown) => error as Error);
      if (!(answer instanceof Error) && answer.status < 429) return answer;
      if (performance.now() > giveUpAt) {
        const said = answer instanceof Error ? String(answer) : JSON.stringify(answer.json);
        throw new Error(`GET ${path}: ${said}\n${servers.map((server) => server.output()).join("\n")}`);
      }
      await sleep(25);
    }
  }

  return {
    topology,
    hasTerminals,
    ...paths,
    uid,
    env,
    disk,
    /** The disk that can lose power, and the id of the host's boot. */
    power: device && { device, setBootId },
    api,
    agent,
    servers,
    line,
    ask,
    read,

    ahead: (): Readonly<Ahead> => ahead,
    moveClock(by: Partial<Ahead>): void {
      ahead = { passed: ahead.passed + (by.passed ?? 0), set: ahead.set + (by.set ?? 0) };
      offsets.push(ahead.passed + ahead.set);
      // Renamed, for the servers read it at any moment.
      writeFileSync(`${paths.clock}.new`, aheadText(ahead));
      renameSync(`${paths.clock}.new`, paths.clock);
    },
    /** How far ahead of the real one the wall clock was since the last call, in milliseconds: now, and before each move. */
    takeClockOffsets(): number[] {
      const taken = offsets;
      offsets = taken.slice(-1);
      return taken;
    },
    readLedger: () => readFileSync(paths.ledger, "utf8"),
    async stop({ keepFolder }: { keepFolder: boolean }): Promise<void> {
      await api.stop();
      await agent?.stop();
      await line?.close();
      if (keepFolder) return;
      disk.remove();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

function giveTo(uid: number | undefined, dir: string): void {
  if (uid !== undefined) execFileSync("chown", ["-R", `${uid}:${uid}`, dir]);
}

function main(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url));
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}
