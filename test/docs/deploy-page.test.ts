import { execFile, execFileSync, type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { describe, expect, onTestFinished, test } from "vitest";

import { readNodeConfig } from "../../adapters/node/config.ts";
import { serveNode } from "../../adapters/node/serve.ts";
import { freePort } from "../bench/server.ts";
import { ALL, type Deploy, nodeEmbedded, startHub, until } from "../support/hub.ts";
import { needs } from "../support/needs.ts";
import { tempDir } from "../support/temp-dir.ts";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const WRANGLER = join(PROJECT, "node_modules/wrangler/bin/wrangler.js");
const PAGE = readFileSync(join(PROJECT, "docs", "deploy.md"), "utf8");
const NGINX = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"].find((path) => existsSync(path));
const HAS_OPENSSL = spawnSync("openssl", ["version"]).status === 0;
const HAS_SQLITE = spawnSync("sqlite3", ["--version"]).status === 0;

function codeBlocks(language: string): string[] {
  return [...PAGE.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, "gms"))].map(
    (match) => match[1]!,
  );
}

describe("docs/deploy.md", () => {
  test(
    "names only wrangler commands and options that the pinned wrangler has",
    { timeout: 600_000 },
    async () => {
      const lines = [...PAGE.matchAll(/npx wrangler (?<words>[^`\n]+)/g)].map(
        (match) => match.groups!["words"]!,
      );
      expect(lines.length).toBeGreaterThan(8);
      const commands = new Map<string, Set<string>>();
      const cache = await mkdtemp(join(tmpdir(), "hub-wrangler-"));
      onTestFinished(() => rm(cache, { recursive: true }));
      for (const line of lines) {
        const command = /^[a-z]+(?: (?:namespace|key|service|put|create))*/.exec(line)![0];
        const options = commands.get(command) ?? new Set();
        for (const [option] of line.matchAll(/--[a-z\d-]+/g)) options.add(option);
        commands.set(command, options);
      }
      // wrangler is large: compiled once, each of its starts takes a fraction of the time.
      const env = {
        PATH: process.env["PATH"],
        HOME: cache,
        NODE_COMPILE_CACHE: cache,
        WRANGLER_SEND_METRICS: "false",
      };
      async function check([command, options]: [string, Set<string>]): Promise<void> {
        const args = [WRANGLER, ...command.split(" "), "--help"];
        const { stdout } = await promisify(execFile)(process.execPath, args, { env, cwd: cache });
        expect(stdout).toContain(`wrangler ${command}`);
        for (const option of options) expect(stdout, command).toMatch(new RegExp(`${option}\\b`));
      }
      const [first, ...others] = commands;
      await check(first!);
      await Promise.all(others.map(check));
    },
  );

  test("names only npm scripts and files that exist", () => {
    const { scripts } = JSON.parse(readFileSync(join(PROJECT, "package.json"), "utf8"));
    const edge = "edge";
    const names = [...PAGE.matchAll(/\bnpm (?:run (?:-s )?)?([a-z:]+)/g)].map((match) => match[1]!);
    for (const name of names) {
      expect([...Object.keys(scripts), "ci", edge], `npm run ${name}`).toContain(name);
    }
    const units = new Set(PAGE.match(/\bhub(?:-agent|-edge)?\.(?:service|socket)\b/g));
    expect(units.size).toBe(6);
    for (const unit of units) expect(existsSync(join(PROJECT, "host-agent/systemd", unit)), unit).toBe(true);
  });

  test(
    "shows a backup command that copies a database in use",
    needs(HAS_SQLITE, "sqlite3 is not installed"),
    async () => {
      const dir = await mkdtemp(join(tmpdir(), "hub-backup-"));
      onTestFinished(() => rm(dir, { recursive: true }));
      const command = codeBlocks("sh")
        .join("")
        .split("\n")
        .find((line) => line.startsWith("sqlite3"))!
        .replace("/var/lib/serveraihub", dir)
        .replace("/var/backups", dir);
      using db = new DatabaseSync(join(dir, "runs.db"));
      db.exec(
        "PRAGMA journal_mode = WAL; CREATE TABLE runs (run_id TEXT); INSERT INTO runs VALUES ('run_1');",
      );

      execFileSync("/bin/sh", ["-c", command]);

      using copy = new DatabaseSync(join(dir, "hub-runs.db"), { readOnly: true });
      expect(copy.prepare("SELECT run_id FROM runs").all()).toMatchObject([{ run_id: "run_1" }]);
    },
  );

  test(
    "shows an nginx configuration that does not change the API of the edge",
    needs(NGINX !== undefined && HAS_OPENSSL, "nginx or openssl is not installed"),
    async () => {
      let urls: string[] = [];
      await using hub = await startHub({
        deploy: async (setup) => {
          const deployment = await nodeEmbedded(setup);
          urls = [deployment.url];
          return deployment;
        },
      });
      const port = await freePort();
      const [conf] = codeBlocks("nginx");
      const nginx = await startNginx(hub.dir, conf!, { upstream: new URL(urls[0]!).host, port });
      onTestFinished(nginx.stop);
      const path = await hub.script("job.sh", "echo hello; sleep 1; echo world");

      const ask = (method: string, target: string, headers: Record<string, string> = {}, body = "") =>
        askTls({ port, method, target, body, headers: { authorization: `Bearer ${ALL.key}`, ...headers } });
      const launched = await ask(
        "POST",
        "/api/v1/scripts/runs",
        { "content-type": "application/json", "idempotency-key": "k", "x-request-id": "from-the-client" },
        JSON.stringify({ path }),
      );
      expect(launched).toMatchObject({ status: 201, headers: { "x-request-id": "from-the-client" } });
      const again = await ask(
        "POST",
        "/api/v1/scripts/runs",
        { "content-type": "application/json", "idempotency-key": "k" },
        JSON.stringify({ path }),
      );
      expect(again.headers["idempotent-replayed"]).toBe("true");
      const { run_id } = JSON.parse(launched.body);
      expect(JSON.parse(again.body).run_id).toBe(run_id);
      const first = await ask("GET", `/api/v1/scripts/runs/${run_id}/logs?wait=20`, { accept: "text/plain" });
      expect(first.body).toBe("hello\n");
      const page = await ask("GET", `/api/v1/scripts/runs/${run_id}/logs?after=6&wait=20`, {
        accept: "text/plain",
      });
      expect(page).toMatchObject({ status: 200, body: "world\n", headers: { "hub-log-offset": "12" } });
      // Our own 413, as a problem; nginx would answer with a page of HTML.
      const large = await ask(
        "POST",
        "/api/v1/scripts/runs",
        { "content-type": "application/json" },
        `"${"x".repeat(100_000)}"`,
      );
      expect(large).toMatchObject({ status: 413, headers: { "content-type": "application/problem+json" } });
      await ask("GET", `/api/v1/scripts?path=${hub.root}`);
      const logged = await until(() => {
        const text = readFileSync(join(hub.dir, "access.log"), "utf8");
        return text.includes('"GET /api/v1/scripts" 200') ? text : undefined;
      });
      expect(logged, "the query names files of the host").not.toContain("path=");
      const refused = await ask("GET", "/api/v1/scripts/runs", { authorization: "Bearer wrong" });
      expect(refused.status).toBe(401);
      await hub.ended({ source: "script", run_id });
    },
  );
});

test.for([
  ["unix", "127.0.0.1"],
  [undefined, null],
] as const)(
  "behind nginx on a Unix socket, as docs/deploy.md shows it, HUB_TRUSTED_PROXIES=%s records a client at %s",
  needs(NGINX !== undefined && HAS_OPENSSL, "nginx or openssl is not installed"),
  async ([proxies, address]) => {
    const path = join(tempDir(), "hub.sock");
    const env = proxies === undefined ? {} : { HUB_TRUSTED_PROXIES: proxies };
    expect(PAGE).toContain("With HUB_HOST=unix:/path: server unix:/path;");
    const deploy: Deploy = async (setup) => {
      const config = { ...setup.env, ...env, HUB_HOST: `unix:${path}` };
      const serving = await serveNode(readNodeConfig(config), config, () => {});
      const port = await freePort();
      const nginx = await startNginx(setup.dir, codeBlocks("nginx")[0]!, { upstream: `unix:${path}`, port });
      const refused = await askTls({ port, method: "GET", target: "/api/v1/scripts", body: "", headers: {} });
      expect(refused.status).toBe(401);
      await nginx.stop();
      await serving.stop();
      return nodeEmbedded(setup);
    };
    await using hub = await startHub({ deploy });

    const lines = readFileSync(join(hub.stateDir, "audit.log"), "utf8").trim().split("\n");
    const refused = lines.map((line) => JSON.parse(line)).find(({ event }) => event === "refused");
    expect(refused.address).toBe(address);
  },
);

/** nginx with the page's server, on other ports and with a separate certificate, in the foreground. */
async function startNginx(
  dir: string,
  snippet: string,
  { upstream, port }: { upstream: string; port: number },
) {
  const [cert, key] = [join(dir, "cert.pem"), join(dir, "key.pem")];
  execFileSync(
    "openssl",
    ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"].concat([
      "-subj",
      "/CN=hub.example",
      "-keyout",
      key,
      "-out",
      cert,
    ]),
    { stdio: "ignore" },
  );
  const server = snippet
    .replace("/var/log/nginx/hub.log", join(dir, "access.log"))
    .replace("127.0.0.1:8787", upstream)
    .replace("listen 443 ssl", `listen 127.0.0.1:${port} ssl`)
    .replace("/etc/ssl/hub/fullchain.pem", cert)
    .replace("/etc/ssl/hub/privkey.pem", key);
  const folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (name) => `${name}_temp_path ${dir}/nginx-${name};`,
  );
  const conf = join(dir, "nginx.conf");
  await writeFile(
    conf,
    `daemon off; master_process off; pid ${dir}/nginx.pid; error_log stderr;
events {} http { access_log off; ${folders.join(" ")} ${server} }`,
  );
  execFileSync(NGINX!, ["-t", "-q", "-e", "stderr", "-c", conf]);
  const child: ChildProcess = spawn(NGINX!, ["-e", "stderr", "-c", conf], { stdio: "ignore" });
  await until(async () => {
    expect(child.exitCode).toBeNull();
    return askTls({ port, method: "GET", target: "/healthz" }).catch(() => undefined);
  });
  return {
    async stop() {
      if (child.exitCode !== null) return;
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      await ended;
    },
  };
}

interface TlsAsk {
  port: number;
  method: string;
  target: string;
  headers?: Record<string, string>;
  body?: string;
}

async function askTls({ port, method, target, headers, body = "" }: TlsAsk) {
  const outgoing = request({
    host: "127.0.0.1",
    port,
    method,
    path: target,
    headers: { host: "hub.example", ...headers },
    rejectUnauthorized: false,
    agent: false,
  });
  outgoing.end(body);
  const [incoming] = await once(outgoing, "response");
  let text = "";
  for await (const chunk of incoming) text += String(chunk);
  return {
    status: incoming.statusCode as number,
    headers: incoming.headers as Record<string, string>,
    body: text,
  };
}
