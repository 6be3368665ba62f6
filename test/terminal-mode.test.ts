import { spawn } from "node:child_process";
import { once } from "node:events";
import { open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { describe, expect, test } from "vitest";

import { missingForTerminal } from "../host-agent/terminal-mode.ts";
import { startHub, until } from "./hub.ts";
import { serverProcess } from "./server-process.ts";

const TERMINAL_TS = fileURLToPath(new URL("../host-agent/terminal.ts", import.meta.url));

describe("terminal mode", () => {
  test.for(["1.51.0", "1.51.99", "1.9.0", "0.60.0"])(
    "is refused on libuv %s, which loses output",
    async (uv) => {
      expect(await missingForTerminal(uv)).toMatch(new RegExp(`Node 24\\.16 or later.*libuv ${uv}`));
    },
  );

  test.for(["1.52.0", "1.52.1", "1.100.0", "2.0.0", process.versions.uv])(
    "is there on libuv %s",
    async (uv) => {
      expect(await missingForTerminal(uv)).toBe(undefined);
    },
  );

  test("a command that writes to a log without room goes on, and keeps its exit code", async () => {
    await using full = await open("/dev/full", "w");
    const command = ["/bin/sh", "-c", "echo lost; sleep 0.1; echo lost; exit 9"];
    const child = spawn(process.execPath, [TERMINAL_TS, ...command], { stdio: ["ignore", full.fd, full.fd] });
    expect(await once(child, "exit")).toEqual([9, null]);
  });

  test("a run in it survives kill -9 of the server, with its log and exit code", async () => {
    await using hub = await startHub({ deploy: serverProcess({ stopSignal: "SIGKILL" }) });
    const run = await hub.runScript("echo before; until [ -e go ]; do sleep 0.02; done; echo after; exit 8", {
      terminal: true,
    });
    await until(async () => (await hub.log(run)) === "before\n" || undefined);

    await hub.restart(() => writeFile(join(hub.root, "go"), ""));
    expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 8 });
    expect(await hub.log(run)).toBe("before\nafter\n");
  });

  test("a run in it whose server was killed can still be killed as a whole tree", async () => {
    await using hub = await startHub({ deploy: serverProcess({ stopSignal: "SIGKILL" }) });
    const run = await hub.runScript("setsid sleep 600 & echo ready; wait", { terminal: true });
    await until(async () => (await hub.log(run)) === "ready\n" || undefined);

    await hub.restart();
    expect((await hub.run(run)).status).toBe("running");
    await hub.kill(run);
    expect(await hub.ended(run)).toMatchObject({ status: "killed", exit_code: 143 });
  });
});
