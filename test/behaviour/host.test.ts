import { createHash } from "node:crypto";
import { closeSync, existsSync, openSync } from "node:fs";
import { chmod, copyFile, mkdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { readNodeConfig } from "../../adapters/node/config.ts";
import { defaultKeysFile } from "../../adapters/node/keys-path.ts";
import { sha256 } from "../../host-agent/system/sha256.ts";
import { memoryKV } from "../../adapters/node/kv-memory.ts";
import { agentClient } from "../../handlers/agent-client.ts";
import { createApp } from "../../handlers/app.ts";
import { readDoorConfig } from "../../host-agent/config.ts";
import { logFileName } from "../../host-agent/logs/log-name.ts";
import { type Deploy, type Hub, nodeEmbedded, startHub, until } from "../support/hub.ts";

const PIPELINES = "/api/v1/pipelines/runs";
const SCRIPTS = "/api/v1/scripts/runs";

describe("default settings", () => {
  test("have the documented values", () => {
    const env = { XDG_STATE_HOME: "/state/home" };
    const { agent, ...node } = readNodeConfig(env);
    const door = readDoorConfig(env);

    expect(node).toMatchObject({
      host: "127.0.0.1",
      port: 8787,
      keysFile: defaultKeysFile(env),
      kvFile: "/state/home/serveraihub/kv.db",
      remoteAgent: undefined,
      allowOpen: false,
      hosts: [],
      trustedProxies: [],
    });
    expect(agent).toMatchObject({
      stateDir: "/state/home/serveraihub",
      scriptRoots: [homedir(), join(homedir(), "serveraihub/scripts")],
      recipesFile: expect.stringMatching(/\/host-agent\/recipes\/recipes\.json$/),
      maxRunning: 64,
    });
    expect(readNodeConfig({}).agent.stateDir).toBe(join(homedir(), ".local/state/serveraihub"));
    expect(readNodeConfig({ HUB_KV: "memory:" }).kvFile).toBeUndefined();
    expect(readNodeConfig({ HUB_RATE_PER_KEY: "0" }).ratePerKey, "as the Worker has it").toBeUndefined();
    expect(door).toMatchObject({
      name: "host-agent",
      listen: { host: "127.0.0.1", port: 8788 },
      trustFile: "/state/home/serveraihub/trusted_keys.json",
    });
  });
});

describe("an internal error", () => {
  test("answers a bare 500 with a request id, and the reason is only in the log", async () => {
    const entries: Record<string, unknown>[] = [];
    const app = createApp({
      agent: agentClient(() => expect.unreachable("the host was asked")),
      kv: memoryKV(),
      keys: () => {
        throw new Error("the secret of /etc/hub");
      },
      digest: sha256,
      log: (entry) => entries.push(entry),
      now: Date.now,
    });

    const response = await app.fetch(new Request(`http://localhost${PIPELINES}`));

    const text = await response.text();
    expect(text).not.toMatch(/secret|\/etc|Error:| {4}at /);
    expect(JSON.parse(text)).toMatchObject({
      type: "urn:serveraihub:problem:internal",
      status: 500,
      code: "internal",
      instance: PIPELINES,
      request_id: response.headers.get("x-request-id"),
    });
    expect(entries).toMatchObject([{ level: "error", cause: expect.stringContaining("/etc/hub") }]);
  });
});

describe("the host", () => {
  let hub: Hub;
  beforeAll(async () => {
    const busy = { recipe_id: "busy", title: "Busy", description: "Is being written", command: ["./busy"] };
    hub = await startHub({ deploy: withInnerRoot, recipes: [busy] });
  });
  afterAll(() => hub[Symbol.asyncDispose]());

  test("the script list without a path has the scripts of all roots without duplicates, also with nested roots", async () => {
    await using own = await startHub({ deploy: withInnerRoot });
    await mkdir(join(own.root, "inner"), { recursive: true });
    await mkdir(join(own.dir, "second"));
    const paths = [
      await own.script("outer.sh", "true"),
      await own.script("inner/both.sh", "true"),
      join(own.dir, "second/other.sh"),
    ];
    await writeFile(paths[2]!, "true");

    const { json } = await own.get("/api/v1/scripts");

    const listed = json.scripts.map((script: { path: string }) => script.path);
    expect(listed.toSorted()).toEqual(paths.toSorted());
    expect((await own.post(SCRIPTS, { path: paths[2] })).status).toBe(201);
  });

  test("a path that cannot be a script is refused with the rule it breaks, whether it exists or not", async () => {
    for (const [path, rule] of [
      ["job.sh", "path: must be an absolute path"],
      ["~/job.sh", "path: must be an absolute path"],
      ["/etc/passwd", "path: must end in .sh"],
      ["/nowhere/at/all", "path: must end in .sh"],
      ["/nowhere/job.sh", "path: only .sh files inside the script roots"],
    ]) {
      const { status, json } = await hub.post(SCRIPTS, { path });
      expect({ status, detail: json.detail }, path).toEqual({
        status: 403,
        detail: expect.stringContaining(rule!),
      });
    }
  });

  test("spec_sha256 is the SHA-256 of the script, and the folder of the run is closed to other users", async () => {
    const run = await hub.ended(await hub.runScript("cat; echo over"));
    const bytes = await readFile((run.spec as { path: string }).path);

    expect(run.spec_sha256).toBe(createHash("sha256").update(bytes).digest("hex"));
    expect((await stat(join(hub.stateDir, "runs", run.run_id))).mode & 0o777).toBe(0o700);
    expect(await hub.log(run), "its standard input is empty").toBe("over\n");
  });

  test("a link with the name of the next log is neither followed nor written to", async () => {
    const victim = join(hub.dir, "victim");
    await writeFile(victim, "untouched");
    const path = await hub.script("linked.sh", "echo written");
    for (let second = 0; second < 5; second++) {
      const name = logFileName("linked", new Date(Date.now() + second * 1_000));
      await symlink(victim, join(hub.stateDir, "logs", name));
    }

    const { json } = await hub.post(SCRIPTS, { path });

    await hub.ended(json);
    expect(await hub.log(json)).toBe("written\n");
    expect(basename(json.log_path)).toMatch(/^linked__\d{8}_\d{6}_[0-9a-f]{12}\.log$/);
    expect(await readFile(victim, "utf8")).toBe("untouched");

    const missing = join(hub.dir, "missing");
    const dangling = await hub.script("dangling.sh", "echo written");
    for (let second = 0; second < 5; second++) {
      const name = logFileName("dangling", new Date(Date.now() + second * 1_000));
      await symlink(missing, join(hub.stateDir, "logs", name));
    }
    const { json: renamed } = await hub.post(SCRIPTS, { path: dangling });
    await hub.ended(renamed);
    expect(await hub.log(renamed)).toBe("written\n");
    expect(existsSync(missing)).toBe(false);
  });

  test("a program that is being written (ETXTBSY) fails at once, and starts when the writer has closed it", async () => {
    const program = join(hub.dir, "busy");
    await copyFile("/bin/true", program);
    await chmod(program, 0o755);
    const writer = openSync(program, "r+");
    const { json } = await hub.post(PIPELINES, { recipe_id: "busy" });

    const busy = await hub.ended(json);
    expect(busy).toMatchObject({ status: "failed", exit_code: 126 });
    // Under the shell's wrapper setsid(1) reports it.
    expect(`${busy.status_reason} ${await hub.log(json)}`).toMatch(/ETXTBSY|Text file busy/);
    closeSync(writer);
    const again = await hub.post(PIPELINES, { recipe_id: "busy" });
    expect(await hub.ended(again.json)).toMatchObject({ status: "completed" });
  });

  test("the wrapper survives the signals of a terminal or session, and its command ignores none of them", async () => {
    const run = await hub.runScript(
      "grep SigIgn /proc/self/status; until [ -e done ]; do sleep 0.02; done; exit 4",
    );
    await until(async () => (await hub.log(run)).includes("SigIgn") || undefined);
    for (const signal of ["SIGHUP", "SIGINT", "SIGTERM", "SIGQUIT"] as const)
      process.kill(Number(run.pid), signal);

    expect(await hub.run(run)).toMatchObject({ status: "running" });
    await writeFile(join(hub.root, "done"), "");
    expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 4 });
    const ignored = BigInt(`0x${/SigIgn:\s*([0-9a-f]+)/.exec(await hub.log(run))![1]!}`);
    // Bits 0, 1, 2 and 14: SIGHUP, SIGINT, SIGQUIT and SIGTERM (proc_pid_status(5)).
    expect(ignored & 0b100_0000_0000_0111n).toBe(0n);
  });

  test("the longest allowed body and args are accepted", async () => {
    const body = JSON.stringify({ recipe_id: "hello", args: "x".repeat(32_768) });

    const { status, json } = await hub.post(PIPELINES, body.padEnd(65_536, " "));

    expect(status).toBe(201);
    await hub.ended(json);
    expect(await hub.log(json)).toHaveLength("hello \n".length + 32_768);
    expect((await hub.post(PIPELINES, body.padEnd(65_537, " "))).status).toBe(413);
  });
});

/** Three roots, one of them inside another. */
const withInnerRoot: Deploy = (setup) => {
  const root = setup.env["HUB_SCRIPT_ROOTS"]!;
  const roots = `${root}:${root}/inner:${setup.dir}/second`;
  return nodeEmbedded({ ...setup, env: { ...setup.env, HUB_SCRIPT_ROOTS: roots } });
};
