import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

import { expect, onTestFinished, test } from "vitest";

import { hasEnded, readStat } from "../../host-agent/executor/process-identity.ts";
import { processesOf } from "../../host-agent/executor/process-tree.ts";
import { COMPILE_CACHE } from "../support/compile-cache.ts";
import { type Deploy, startHub, until } from "../support/hub.ts";

const NODE_TS = fileURLToPath(new URL("../../adapters/node/node.ts", import.meta.url));

/** Runs a command and takes in all orphans below it (PR_SET_CHILD_SUBREAPER, prctl(2)), but reaps none of them. */
const TAKE_IN_AND_REAP_NONE = `
import ctypes, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
print("pid", subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL).pid, flush=True)
sys.stdin.read()
`;
import { needs } from "../support/needs.ts";
const hasPython = spawnSync("python3", ["-c", "import ctypes"]).status === 0;

/** A server whose orphans nobody reaps, as in a container whose first process does not; a stop is kill -9. */
const withoutReaper: Deploy = async ({ env }) => {
  const child = spawn("python3", ["-c", TAKE_IN_AND_REAP_NONE, process.execPath, NODE_TS], {
    env: { HUB_PORT: "0", ...COMPILE_CACHE, ...env },
    stdio: ["pipe", "pipe", "ignore"],
  });
  onTestFinished(() => end(child));
  let output = "";
  child.stdout.on("data", (chunk) => (output += String(chunk)));
  const url = await until(() => /^ *address +(http:\S+)$/m.exec(output)?.[1]);
  const pid = Number(/^pid (\d+)$/m.exec(output)![1]);
  return {
    url,
    async stop() {
      process.kill(pid, "SIGKILL");
      await until(() => hasEnded(readStat(pid)!) || undefined);
    },
  };
};

async function end(child: ChildProcess): Promise<void> {
  child.stdin!.end();
  await once(child, "exit");
}

test(
  "a killed run whose processes become unreaped zombies has ended",
  needs(hasPython, "python3 with ctypes is not installed"),
  async () => {
    await using hub = await startHub({ deploy: withoutReaper });
    const run = await hub.runScript("setsid sleep 600 & sleep 600 & echo ready; wait");
    await until(async () => (await hub.log(run)) === "ready\n" || undefined);
    const pids = processesOf(run.run_id).map(({ pid }) => pid);

    await hub.restart();
    expect((await hub.run(run)).status).toBe("running");
    await hub.kill(run);
    expect(await hub.ended(run)).toMatchObject({ status: "killed", exit_code: 143, signal: "SIGTERM" });
    // Else nothing was tried.
    expect(pids.map((pid) => readStat(pid)?.state)).toContain("Z");
    expect((await hub.kill(run)).status).toBe(200);
  },
);
