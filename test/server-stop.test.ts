import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { describe, expect, onTestFinished, test } from "vitest";

import { processesOf } from "../host-agent/process-tree.ts";
import { nodeRemote } from "./deployments.ts";
import { type Deploy, nodeEmbedded, startHub, until } from "./hub.ts";
import { serverProcesses, spawnServer, startServerProcess } from "./server-process.ts";

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

  test("logs no fault of its own while it answers them", async () => {
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

  test("counts no run that has ended since anybody looked", async () => {
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

describe("a start", () => {
  test.for(["/proc/hub/state", "/sys/hub", "/proc/self/cwd/../proc/x"])(
    "with its state in %s is refused in a sentence, and does not hang",
    async (stateDir) => {
      const { exitCode, output } = spawnServer({
        HUB_STATE_DIR: stateDir,
        HUB_KEYS_FILE: "/nowhere/keys.json",
      });
      expect(await exitCode).toBe(78);
      expect(output.stderr).toMatch(/^Cannot start\.\nHUB_STATE_DIR: .*the kernel's/);
    },
  );

  test("with its state in a folder that others use is refused, and leaves the folder open to them", async () => {
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

  test("with its state in an empty folder of its own closes it to others", async () => {
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

  test("with a damaged kv.db puts it aside, says so, and remembers anew", async () => {
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
