import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { statSync } from "node:fs";
import { mkdir, mkdtemp, open, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runInThisContext } from "node:vm";

import { describe, expect, onTestFinished, test } from "vitest";

import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { missingForTerminal } from "../../../host-agent/executor/terminal-mode.ts";
import { startHub, until } from "../../support/hub.ts";
import { needs } from "../../support/needs.ts";
import { serverProcess } from "../../support/server-process.ts";

const RUNS = "/api/v1/scripts/runs";
/** More than a terminal holds: the rest waits for a reader. */
const BURST_BYTES = 20_480;
const STALL_MS = 400;
const TERMINAL_JS = fileURLToPath(new URL("../../../host-agent/executor/terminal.js", import.meta.url));

/** Nothing goes on in the process that comes to this, for so long. */
const STALL = `Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${STALL_MS})`;

describe("terminal mode", () => {
  test.for(["1.51.0", "1.51.99", "1.9.0", "0.60.0"])(
    "is refused on libuv %s, which loses output",
    async (uv) => {
      expect(await missingForTerminal(uv)).toMatch(new RegExp(`Node 24\\.16 or later.*libuv ${uv}`));
    },
  );

  test.for(["1.52.0", "1.52.1", "1.100.0", "2.0.0", process.versions.uv])(
    "is available on libuv %s",
    async (uv) => {
      expect(await missingForTerminal(uv)).toBe(undefined);
    },
  );

  test("the log has the newlines of the command, also when the process that prepares the terminal is killed", async () => {
    const recipe = { recipe_id: "lines", title: "Lines", description: "", terminal: true };
    const command = ["/bin/sh", "-c", String.raw`printf 'a\nb\n'`];
    await using hub = await startHub({
      recipes: [{ ...recipe, command, env: { PATH: "bin:/usr/bin:/bin" } }],
    });
    await mkdir(join(hub.dir, "bin"));
    const killedAtFirst = '#!/bin/sh\nmkdir killed && kill -KILL $$\nexec /bin/stty "$@"\n';
    await writeFile(join(hub.dir, "bin", "stty"), killedAtFirst, { mode: 0o755 });
    const { json: run } = await hub.post("/api/v1/pipelines/runs", { recipe_id: "lines" });
    expect(await hub.ended(run)).toMatchObject({ status: "completed", exit_code: 0 });
    expect(await readdir(hub.dir)).toContain("killed");
    expect(await hub.log(run)).toBe("a\nb\n");
  });

  test("a command whose log is on a full disk goes on and keeps its exit code", async () => {
    await using full = await open("/dev/full", "w");
    const command = ["/bin/sh", "-c", "echo lost; sleep 0.1; echo lost; exit 9"];
    const child = spawn(process.execPath, [TERMINAL_JS, ...command], { stdio: ["ignore", full.fd, full.fd] });
    expect(await once(child, "exit")).toEqual([9, null]);
  });

  test("60 concurrent runs have their complete log when they are reported as ended, although the server stalls", async () => {
    await using hub = await startHub();
    const path = await hub.script("burst.sh", `printf %0${BURST_BYTES}d 0`);
    await Promise.all(Array.from({ length: 60 }, () => hub.post(RUNS, { path, terminal: true })));

    // The embedded server uses the same loop.
    runInThisContext(STALL);
    const found = new Map<string, [status: string, size: number]>();
    await until(async () => {
      const runs = (await hub.get(`${RUNS}?limit=100`)).json.runs as RunRecord[];
      for (const { run_id, log_path, status, ended_at } of runs) {
        // At once: a client that sees the end need not ask again for the rest.
        if (ended_at !== null && !found.has(run_id)) found.set(run_id, [status, statSync(log_path).size]);
      }
      return found.size === 60 || undefined;
    });
    expect(new Set([...found.values()].map(String))).toEqual(new Set([`completed,${BURST_BYTES}`]));
  });

  test("the last output of a command is kept, although the reader of the terminal stalls", async () => {
    const dir = await mkdtemp(join(tmpdir(), "terminal-"));
    onTestFinished(() => rm(dir, { recursive: true }));
    // It listens for signals as soon as it has started the command, before it has read a byte.
    const stalls = `process.once("newListener", () => ${STALL})`;
    const command = ["/bin/sh", "-c", `printf %0${BURST_BYTES}d 0; exit 7`];
    await Promise.all(
      Array.from({ length: 12 }, async (_, n) => {
        await using log = await open(join(dir, String(n)), "w");
        const args = [
          "--import",
          `data:text/javascript,${encodeURIComponent(stalls)}`,
          TERMINAL_JS,
          ...command,
        ];
        const child = spawn(process.execPath, args, { stdio: ["ignore", log.fd, "inherit"] });
        expect(await once(child, "exit")).toEqual([7, null]);
        expect((await log.stat()).size).toBe(BURST_BYTES);
      }),
    );
  });

  test.for(["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"] as const)(
    "outlives a %s to its run, for the last words of the command and its exit code",
    async (signal) => {
      const lastWords = `trap 'sleep 0.1; echo last words; exit 3' ${signal.slice(3)}; echo $$; while :; do sleep 0.02; done`;
      const child = spawn(process.execPath, [TERMINAL_JS, "/bin/sh", "-c", lastWords], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      let output = "";
      child.stdout.on("data", (data) => (output += String(data)));
      const pid = await until(() => (/^\d+\n/.test(output) ? Number.parseInt(output, 10) : undefined));
      const closed = once(child, "close");
      child.kill(signal);
      process.kill(pid, signal);
      expect(await closed).toEqual([3, null]);
      expect(output).toBe(`${pid}\nlast words\n`);
    },
  );

  test("a run survives kill -9 of the server, with its log and exit code", async () => {
    await using hub = await startHub({ deploy: serverProcess({ stopSignal: "SIGKILL" }) });
    const run = await hub.runScript("echo before; until [ -e go ]; do sleep 0.02; done; echo after; exit 8", {
      terminal: true,
    });
    await until(async () => (await hub.log(run)) === "before\n" || undefined);

    await hub.restart(() => writeFile(join(hub.root, "go"), ""));
    expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 8 });
    expect(await hub.log(run)).toBe("before\nafter\n");
  });

  test("a run whose server was killed can be killed with its whole process tree", async () => {
    await using hub = await startHub({ deploy: serverProcess({ stopSignal: "SIGKILL" }) });
    const run = await hub.runScript("setsid sleep 600 & echo ready; wait", { terminal: true });
    await until(async () => (await hub.log(run)) === "ready\n" || undefined);

    await hub.restart();
    expect((await hub.run(run)).status).toBe("running");
    await hub.kill(run);
    expect(await hub.ended(run)).toMatchObject({ status: "killed", exit_code: 143 });
  });
});

test.for([
  ["read", 'read -r line; echo "ended with $?"', "ended with 1\n"],
  ["a program that copies its input", "cat; echo end", "end\n"],
] as const)("a command with a terminal does not wait for a person: %s", async ([, script, log]) => {
  await using hub = await startHub();
  const run = await hub.runScript(script, { terminal: true });
  expect(await hub.ended(run)).toMatchObject({ status: "completed" });
  expect(await hub.log(run)).toBe(log);
});

const isInstalled = (program: string) => spawnSync(program, ["--help"]).error === undefined;

test(
  "a command with a terminal does not wait for a person who scrolls the pages of git log",
  needs(isInstalled("git"), "git is not installed"),
  async () => {
    await using hub = await startHub();
    const commit = 'git -c user.name=a -c user.email=a@b.c commit -q --allow-empty -m "$(seq 200)"';
    const run = await hub.runScript(`git init -q repo && cd repo && ${commit} && git log`, {
      terminal: true,
    });
    expect(await hub.ended(run)).toMatchObject({ status: "completed" });
    expect(await hub.log(run)).toMatch(/ 199\n +200\n/);
  },
);

test(
  "a command with a terminal does not wait for a person who types a passphrase for ssh",
  needs(isInstalled("ssh-keygen"), "ssh-keygen is not installed"),
  async () => {
    await using hub = await startHub();
    const script = "ssh-keygen -q -t ed25519 -N secret -f key && ssh-keygen -y -f key";
    const run = await hub.runScript(script, { terminal: true });
    expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 255 });
  },
);
