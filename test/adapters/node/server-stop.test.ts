import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { describe, expect, onTestFinished, test } from "vitest";

import { COMPILE_CACHE } from "../../support/compile-cache.ts";
import { readNodeConfig } from "../../../adapters/node/config.ts";
import { serveNode } from "../../../adapters/node/serve.ts";
import { processesOf } from "../../../host-agent/executor/process-tree.ts";
import { nodeRemote } from "../../support/deployments.ts";
import { type Deploy, nodeEmbedded, startHub, until } from "../../support/hub.ts";
import { serverProcesses, spawnServer, startServerProcess } from "../../support/server-process.ts";

const EDGE_TS = fileURLToPath(new URL("../../../adapters/edge/edge.ts", import.meta.url));
const RUNS = "/api/v1/scripts/runs";

describe("a stop of the server", () => {
  test.for<[string, Deploy]>([
    ["embedded", nodeEmbedded],
    ["remote", nodeRemote],
  ])("answers the requests that are held, with the agent %s", async ([, deploy]) => {
    await using hub = await startHub({ deploy });
    const run = await hub.runScript("echo on; sleep 60");
    const more = await until(async () => ((await hub.log(run)) === "on\n" ? 3 : undefined));
    const held = [0, 1, 2].map(() => hub.get(`${RUNS}/${run.run_id}/logs?after=${more}&wait=30`));
    const headers = { prefer: "wait=30" };
    const path = await hub.script("sleep.sh", "sleep 60");
    const waiting = [hub.get(`${RUNS}/${run.run_id}`, { headers }), hub.post(RUNS, { path }, { headers })];
    await until(async () => (await hub.get(RUNS)).json.runs.length === 2 || undefined);
    // Held means that nothing has come back while another request was answered.
    const first = await Promise.race([...held, ...waiting, hub.get("/healthz")]);
    expect(first.json).toHaveProperty("mode");
    const startedAt = performance.now();
    await hub.restart();
    for (const { status, json } of await Promise.all(held)) {
      expect(status).toBe(200);
      expect(json).toMatchObject({ offset: more, size: more, chunk: "", more: false });
    }
    for (const { json } of await Promise.all(waiting)) expect(json).toMatchObject({ status: "running" });
    // The grace that requests under way are given is 3 s.
    expect(performance.now() - startedAt).toBeLessThan(2_900);
  });

  test("logs no error while it answers the requests that wait", async () => {
    const servers = serverProcesses();
    await using hub = await startHub({ deploy: servers.deploy });
    const run = await hub.runScript("sleep 60");
    const held = hub.get(`${RUNS}/${run.run_id}/logs?wait=30`);
    const gone = new AbortController();
    const hungUp = hub.get(`${RUNS}/${run.run_id}/logs?wait=30`, { signal: gone.signal });
    const record = hub.get(`${RUNS}/${run.run_id}`, { headers: { prefer: "wait=30" } });
    await hub.get("/healthz");
    gone.abort();
    await expect(hungUp).rejects.toThrow(/abort/i);
    const ended = await servers.end("SIGTERM");
    expect((await held).status).toBe(200);
    expect((await record).json).toMatchObject({ status: "running" });
    expect(ended).toMatchObject({ code: 0, output: expect.stringContaining("1 run left running") });
    expect(ended.output).not.toMatch(/"level":"error"|not open/);
    await hub.restart();
  });

  test("does not count runs that have ended since the last look", async () => {
    const servers = serverProcesses();
    await using hub = await startHub({ deploy: servers.deploy });
    const go = join(hub.dir, "go");
    const run = await hub.runScript(`until [ -e ${go} ]; do sleep 0.01; done`);
    writeFileSync(go, "");
    await until(() => processesOf(run.run_id).length === 0 || undefined);
    expect((await servers.end("SIGTERM")).output).toContain("no runs are alive");
    await hub.restart();
  });
});

test("a stop takes place once, with any number of signals, and even if no run can be looked at", async () => {
  const program = `
    import { runService } from ${JSON.stringify(new URL("../../../host-agent/system/service.ts", import.meta.url).href)};
    const nextTurn = () => new Promise((resolve) => setImmediate(resolve));
    const forever = setInterval(() => {}, 1_000);
    await runService(async () => ({
      banner: "serving",
      warnings: [],
      countAlive: async () => { process.kill(process.pid, "SIGINT"); await nextTurn(); throw new Error("cannot look"); },
      stop: async () => { console.log("stopping"); await nextTurn(); },
    }));
    process.kill(process.pid, "SIGTERM");`;
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [
    "--input-type=module",
    "--eval",
    program,
  ]);
  expect({ stdout, stderr }).toEqual({
    stdout: "serving\nstopping\nStopped by SIGTERM; runs left running.\n",
    stderr: "",
  });
});

describe("a start", () => {
  test.for(["/proc/hub/state", "/sys/hub", "/proc/self/cwd/../proc/x"])(
    "with its state in %s is refused with a sentence, and does not hang",
    async (stateDir) => {
      const { exitCode, output } = spawnServer({
        HUB_STATE_DIR: stateDir,
        HUB_KEYS_FILE: "/nowhere/keys.json",
      });
      expect(await exitCode).toBe(78);
      expect(output.stderr).toMatch(/^Cannot start\.\nHUB_STATE_DIR: .*choose a directory on disk/);
    },
  );

  test("with its state in a folder that others use is refused, and does not change the folder's mode", async () => {
    const dir = mkdtempSync(join(tmpdir(), "hub-shared-"));
    onTestFinished(() => rmSync(dir, { recursive: true }));
    const file = join(dir, "file");
    writeFileSync(file, "theirs");
    for (const [stateDir, mode, reason] of [
      [dir, 0o755, /open to others and holds files that are not the Hub's\. Name a folder/],
      [dir, 0o1777, /open to others\. Name a folder/],
      [file, 0o644, /is a file; name a folder$/m],
    ] as const) {
      chmodSync(stateDir, mode);
      const { exitCode, output } = spawnServer({
        HUB_STATE_DIR: stateDir,
        HUB_KEYS_FILE: "/nowhere/keys.json",
      });
      expect(await exitCode).toBe(78);
      expect(output.stderr).toMatch(reason);
      expect(statSync(stateDir).mode & 0o7777).toBe(mode);
      expect(readdirSync(dir)).toEqual(["file"]);
    }
  });

  test.for([
    [{ HUB_STATE_DIR: "/proc/hub" }, /^Cannot start\.\nHUB_STATE_DIR: .*choose a directory on disk/],
    [
      { HUB_STATE_DIR: "/dev/null" },
      /^Cannot start\.\nHUB_STATE_DIR: \/dev\/null is a file; name a folder\n$/,
    ],
    [{ HUB_HOST: "no.such.host.invalid", HUB_ALLOW_OPEN: "1" }, /^Cannot start\.\nHUB_HOST, HUB_PORT: /],
    [{ HUB_PORT: "busy" }, /^Cannot start\.\nHUB_HOST, HUB_PORT: cannot listen .*: it is in use/],
  ] as const)("of the edge with %o is refused in a sentence, as one of the API is", async ([env, reason]) => {
    const dir = mkdtempSync(join(tmpdir(), "hub-edge-"));
    onTestFinished(() => rmSync(dir, { recursive: true }));
    const busy = createServer().listen(0, "127.0.0.1");
    await once(busy, "listening");
    onTestFinished(() => void busy.close());
    const port = "HUB_PORT" in env ? String((busy.address() as AddressInfo).port) : "0";
    const child = spawn(process.execPath, [EDGE_TS], {
      env: { HUB_STATE_DIR: join(dir, "state"), ...COMPILE_CACHE, ...env, HUB_PORT: port },
      stdio: ["ignore", "ignore", "pipe"],
    });
    onTestFinished(() => void child.kill("SIGKILL"));
    let stderr = "";
    child.stderr.on("data", (chunk) => (stderr += String(chunk)));
    await once(child, "close");
    expect(stderr).toMatch(reason);
    expect(stderr).not.toContain("    at ");
    expect(child.exitCode).toBe(78);
  });

  test("that fails on the KV setting leaves no file open", async () => {
    const dir = mkdtempSync(join(tmpdir(), "hub-refused-"));
    onTestFinished(() => rmSync(dir, { recursive: true }));
    const env = { HUB_STATE_DIR: join(dir, "state"), HUB_KEYS_FILE: join(dir, "keys.json") };
    const config = readNodeConfig({ ...env, HUB_PORT: "0", HUB_KV: "sqlite:/dev/null/kv.db" });
    await expect(serveNode(config, env, () => {})).rejects.toThrow("HUB_KV: sqlite:/dev/null/kv.db");
    const open = readdirSync("/proc/self/fd").flatMap((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return [];
      }
    });
    expect(open.filter((path) => path.startsWith(dir))).toEqual([]);
  });

  test("with its state in an empty separate folder closes the folder to others", async () => {
    const dir = mkdtempSync(join(tmpdir(), "hub-empty-"));
    onTestFinished(() => rmSync(dir, { recursive: true }));
    chmodSync(dir, 0o755);
    await using server = await startServerProcess({
      HUB_STATE_DIR: dir,
      HUB_KEYS_FILE: "/nowhere/keys.json",
    });
    expect(server.output.stdout).toContain(`  state     ${dir}`);
    expect(statSync(dir).mode & 0o7777).toBe(0o700);
  });

  test("with a damaged runs.db is refused with what to do, and changes nothing of it", async () => {
    await using hub = await startHub();
    const path = join(hub.stateDir, "runs.db");
    await hub.ended(await hub.runScript("true"));
    await hub.restart(async () => {
      const whole = readFileSync(path);
      const damaged = Buffer.concat([Buffer.from("garbage"), whole.subarray(7)]);
      writeFileSync(path, damaged);
      const { exitCode, output } = spawnServer(hub.env);
      expect(await exitCode).toBe(78);
      expect(output.stderr).toMatch(
        /HUB_STATE_DIR: .*runs\.db is damaged.*Restore it from a backup; or move it/,
      );
      expect(readFileSync(path).equals(damaged)).toBe(true);
      writeFileSync(path, whole);
    });
    expect((await hub.get(RUNS)).json.runs).toHaveLength(1);
  });

  test("with a damaged kv.db renames it, reports that, and remembers launches in a new one", async () => {
    await using hub = await startHub();
    const path = await hub.script("job.sh", "true");
    const launch = () => hub.post(RUNS, { path }, { headers: { "idempotency-key": "k" } });
    const { run_id } = (await launch()).json;
    await hub.restart(() => writeFileSync(join(hub.stateDir, "kv.db"), "garbage ".repeat(1_000)));
    const again = await launch();
    expect(again.status).toBe(201);
    expect(again.json.run_id).toBe(run_id);
    expect(again.headers.get("idempotent-replayed")).toBe("true");
    await hub.restart();
    expect((await launch()).json.run_id).toBe(run_id);
  });
});
