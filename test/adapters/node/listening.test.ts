import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, statSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { expect, onTestFinished, test } from "vitest";

import { readNodeConfig } from "../../../adapters/node/config.ts";
import { serveNode } from "../../../adapters/node/serve.ts";
import { unixFetch } from "../../../adapters/node/unix-fetch.ts";
import { passedSockets } from "../../../host-agent/system/passed-sockets.ts";
import { freePort } from "../../bench/server.ts";
import { COMPILE_CACHE } from "../../support/compile-cache.ts";
import { ALL, type Deploy, nodeEmbedded, startHub, until } from "../../support/hub.ts";
import { needs } from "../../support/needs.ts";
import { PYTHON } from "../../support/shell.ts";
import { tempDir } from "../../support/temp-dir.ts";

const NODE_TS = fileURLToPath(new URL("../../../adapters/node/node.ts", import.meta.url));
const HAS_IPV6 = await listening({ host: "::1", port: 0 }).then(
  (server) => !server.close().listening,
  () => false,
);
const KEY = { authorization: `Bearer ${ALL.key}` };

test("a Unix socket of the API is for its user and group, replaces one that a dead server left, and serves", async () => {
  const path = join(tempDir(), "run", "hub.sock");
  const deploy: Deploy = async ({ env }) => {
    const serving = await serveNode(readNodeConfig({ ...env, HUB_HOST: `unix:${path}` }), env, () => {});
    expect(serving.url).toBe(`unix:${path}`);
    expect(statSync(path).mode & 0o777).toBe(0o660);
    const response = await unixFetch(path)(
      new Request("http://localhost/api/v1/pipelines/recipes", { headers: KEY }),
    );
    expect(response.status).toBe(200);
    await response.text();
    await serving.stop();
    // Left by a server that was killed.
    const dead = spawn(process.execPath, [
      "-e",
      `require("node:net").createServer().listen(${JSON.stringify(path)})`,
    ]);
    await until(() => statSync(path, { throwIfNoEntry: false }));
    dead.kill("SIGKILL");
    await once(dead, "exit");
    const again = await serveNode(readNodeConfig({ ...env, HUB_HOST: `unix:${path}` }), env, () => {});
    await again.stop();
    return nodeEmbedded({ dir: "", env });
  };
  await using hub = await startHub({ deploy });
  expect(hub.url).toMatch(/^http:/);
});

test("without API keys nothing is served on a Unix socket: a proxy with clients everywhere may be in front", async () => {
  const dir = tempDir();
  const env = {
    HUB_STATE_DIR: join(dir, "state"),
    HUB_KEYS_FILE: join(dir, "keys.json"),
    HUB_SCRIPT_ROOTS: "",
  };
  const config = readNodeConfig({ ...env, HUB_HOST: `unix:${join(dir, "hub.sock")}` });
  await expect(serveNode(config, env, () => {})).rejects.toThrow(
    /HUB_HOST: without API keys .* npm run -s keys/,
  );
  expect(() => readNodeConfig({ HUB_HOST: "unix:hub.sock" })).toThrow(/HUB_HOST: must be a host or unix:/);
});

test(
  "by default nobody else receives what is sent to localhost: the API listens on ::1 as well, or does not start",
  needs(HAS_IPV6, "this machine has no ::1"),
  async () => {
    const dir = tempDir();
    const port = await freePort();
    const env = {
      HUB_PORT: String(port),
      HUB_STATE_DIR: join(dir, "state"),
      HUB_KEYS_FILE: join(dir, "keys.json"),
      HUB_SCRIPT_ROOTS: "",
    };
    const serving = await serveNode(readNodeConfig(env), env, () => {});
    for (const host of ["127.0.0.1", "[::1]", "localhost"]) {
      const response = await fetch(`http://${host}:${port}/healthz`);
      expect(response.status, host).toBe(200);
      await response.text();
    }
    await serving.stop();
    await expect(fetch(`http://[::1]:${port}/healthz`)).rejects.toThrow();

    const other = await listening({ host: "::1", port });
    onTestFinished(() => void other.close());
    await expect(serveNode(readNodeConfig(env), env, () => {})).rejects.toThrow(
      `HUB_HOST, HUB_PORT: cannot listen on ::1 port ${port}: it is in use`,
    );
    // Exactly the address that is named.
    const named = { ...env, HUB_HOST: "127.0.0.1" };
    await (await serveNode(readNodeConfig(named), named, () => {})).stop();
  },
);

test(
  "the sockets of systemd stay while the service is away: no other program gets the port, and no client an error",
  needs(existsSync(PYTHON), "python3 is not installed"),
  async () => {
    const path = join(tempDir(), "s");
    const systemd = await holder(path);
    const deploy: Deploy = async ({ env }) => {
      await systemd.start(env);
      return { url: systemd.url, stop: systemd.stop };
    };
    await using hub = await startHub({ deploy, env: { HUB_TRUSTED_PROXIES: "unix" } });

    const run = await hub.runScript("ls -l /proc/self/fd");
    await hub.ended(run);
    expect(await hub.log(run), "a job could accept clients").not.toContain("socket:");
    const viaPath = await unixFetch(path)(new Request("http://localhost/healthz"));
    expect(await viaPath.json()).toMatchObject({ mode: "enforced" });
    // Of a socket that was passed as a number, nothing but the socket itself tells its kind.
    const unkeyed = { headers: { "x-forwarded-for": "203.0.113.7" } };
    await (await fetch(`${systemd.url}/api/v1/scripts`, unkeyed)).text();
    await (await unixFetch(path)(new Request("http://localhost/api/v1/scripts", unkeyed))).text();
    const lines = readFileSync(join(hub.stateDir, "audit.log"), "utf8").trim().split("\n");
    const refused = lines.map((line) => JSON.parse(line)).filter(({ event }) => event === "refused");
    expect(refused.map(({ address }) => address)).toEqual(["127.0.0.1", "203.0.113.7"]);

    await systemd.stop();
    const waiting = fetch(`${systemd.url}/healthz`);
    await hub.start();
    expect((await waiting).status).toBe(200);
  },
);

test("sockets that systemd has bound for another process are not used", () => {
  expect(passedSockets({ LISTEN_PID: String(process.pid), LISTEN_FDS: "2" })).toEqual([3, 4]);
  expect(passedSockets({ LISTEN_PID: "1", LISTEN_FDS: "2" })).toEqual([]);
  expect(passedSockets({})).toEqual([]);
});

/** Binds a port and a path as systemd does, and starts the program of its arguments with both for each line that it reads. */
const HOLDER = `
import json, os, socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)]
sockets[1].bind(sys.argv[1])
sockets[1].listen()
print("port", sockets[0].getsockname()[1], flush=True)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        for index, each in enumerate(sockets): os.dup2(each.fileno(), 30 + index)
        for index in range(2): os.dup2(30 + index, 3 + index)
        for index in range(2): os.close(30 + index)
        env = dict(json.loads(line), LISTEN_FDS="2", LISTEN_PID=str(os.getpid()))
        os.execve(sys.argv[2], sys.argv[2:], env)
    print("pid", pid, flush=True)
    os.waitpid(pid, 0)
    print("ended", pid, flush=True)
`;

async function holder(path: string) {
  const child = spawn(PYTHON, ["-c", HOLDER, path, process.execPath, NODE_TS], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.on("data", (chunk) => (output += String(chunk)));
  const printed = (pattern: RegExp) => until(() => pattern.exec(output)?.[1], 25_000);
  const port = await printed(/^port (\d+)$/m);
  let pid: string | undefined;
  async function stop(): Promise<void> {
    if (pid === undefined) return;
    process.kill(Number(pid), "SIGTERM");
    await printed(new RegExp(`^(ended ${pid})$`, "m"));
    pid = undefined;
  }
  onTestFinished(async () => {
    await stop();
    child.stdin.end();
    await once(child, "exit");
  });
  return {
    url: `http://127.0.0.1:${port}`,
    async start(env: Record<string, string>): Promise<void> {
      output = "";
      child.stdin.write(`${JSON.stringify({ ...COMPILE_CACHE, ...env })}\n`);
      pid = await printed(/^pid (\d+)$/m);
      expect(await printed(/^ *address +(\S+)$/m)).toBe(`http://127.0.0.1:${port}`);
    },
    stop,
  };
}

/** Another program that listens. */
async function listening(address: { host: string; port: number } | { path: string }): Promise<Server> {
  const server = createServer();
  server.listen(address);
  await once(server, "listening");
  return server;
}
