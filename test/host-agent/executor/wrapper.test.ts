import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, openSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { lookAt } from "../../../host-agent/executor/look.ts";
import { openOrder, shellOrder } from "../../../host-agent/executor/order-file.ts";
import { identify, readStat } from "../../../host-agent/executor/process-identity.ts";
import { processesOf } from "../../../host-agent/executor/process-tree.ts";
import {
  createRunFolder,
  readExit,
  readStarted,
  runFolder,
} from "../../../host-agent/executor/run-folder.ts";
import { until } from "../../support/hub.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { lookDeps } from "./look-deps.ts";
import { bash, realRun } from "./real-run.ts";

const WRAPPER_SH = join(import.meta.dirname, "../../../host-agent/executor/wrapper.sh");

/** A wrapper that the test starts itself, in a folder and with an order that the test may damage. */
function bareWrapper({
  order,
  prepare,
}: {
  order?: (whole: string) => string;
  prepare?: (started: string) => void;
}) {
  const dir = tempDir();
  const runId = "run_0000000000aa";
  const folder = runFolder(dir, runId);
  mkdirSync(join(dir, "runs"));
  createRunFolder(folder);
  prepare?.(folder.started);
  const whole = shellOrder({
    runId,
    folder: folder.path,
    argv: bash("echo started"),
    logLimit: undefined,
    hasCgroup: false,
  });
  using file = openOrder(order?.(whole) ?? whole, folder.path);
  const log = join(dir, "log");
  const wrapper = spawn("/bin/sh", [WRAPPER_SH, runId], {
    detached: true,
    stdio: [file.fd, openSync(log, "a"), "ignore"],
    env: {},
  });
  onTestFinished(() => void wrapper.kill("SIGKILL"));
  return { folder, log, wrapper, whole };
}

test("the exit code has its space on the disk before the command starts, and is written into it", async () => {
  await Promise.all(
    [0, 7, 255].map(async (code) => {
      const run = await realRun(bash(`stat -c "%i %s" "$1"; exit ${code}`, "EXIT"));
      expect(await run.ended()).toBe(code);
      const { ino, size } = statSync(run.folder.exit);
      expect(size, "neither longer nor cut").toBe(8);
      expect(ino).toBeGreaterThan(0);
    }),
  );
});

test("a wrapper that finds its run claimed starts nothing", async () => {
  const { folder, log, wrapper } = bareWrapper({ prepare: (started) => writeFileSync(started, "agent\n") });
  expect(await once(wrapper, "exit")).toEqual([75, null]);
  expect(readFileSync(log, "utf8")).toBe("");
  expect(readStarted(folder)).toBe("agent");
  expect(readExit(folder)).toBeUndefined();
});

test("a wrapper whose order is not whole claims nothing and starts nothing", async () => {
  const { length } = bareWrapper({}).whole;
  await Promise.all(
    [0, length - 1, length - 5, length - 20, Math.floor(length / 2)].map(async (bytes) => {
      const { folder, log, wrapper } = bareWrapper({ order: (whole) => whole.slice(0, bytes) });
      const [code] = (await once(wrapper, "exit")) as [number];
      // With its last newline missing the last line is whole all the same.
      expect(code, String(bytes)).toBe(bytes === length - 1 ? 0 : code === 2 ? 2 : 75);
      expect(existsSync(folder.started), String(bytes)).toBe(bytes === length - 1);
      expect(readFileSync(log, "utf8"), String(bytes)).toBe(bytes === length - 1 ? "started\n" : "");
    }),
  );
});

test("a wrapper has written its pid when its command starts, and stays its parent", async () => {
  const run = await realRun(bash('cat "$0"/../runs/$HUB_RUN_ID/started; echo $PPID; true'), {});
  expect(await run.ended()).toBeGreaterThanOrEqual(0);
  const parent = run.handle.process!.pid;
  expect(readStarted(run.folder)).toBe(parent);
  expect(run.text().endsWith(`${parent}\n`)).toBe(true);
});

test("a wrapper outlives the signals to its run, and its command gets their default action", async () => {
  await Promise.all(
    ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "ALRM", "PIPE"].map(async (signal) => {
      const run = await realRun(bash("ulimit -c 0; echo ready; exec sleep 60"));
      await run.says("ready");
      const wrapper = run.handle.process!.pid;
      const command = await until(() => childrenOf(wrapper).find((pid) => isProgram(pid, "sleep")));
      for (const pid of [wrapper, command]) process.kill(pid, `SIG${signal}`);
      const code = await run.ended();
      expect(code, signal).toBeGreaterThan(128);
      expect(readStat(command)).toBeUndefined();
    }),
  );
});

test("a command that removes the folder of its run keeps its log", async () => {
  const run = await realRun(bash('rm -r "runs/$HUB_RUN_ID"; echo on; exit 9'));
  await run.says("on");
  await until(() => processesOf(run.runId).length === 0 || undefined);
  expect(existsSync(run.folder.path)).toBe(false);
  expect(readdirSync(dirname(run.folder.path))).toEqual([]);
});

test("a command that was killed before anything of it ran was never started, and one that ran was", async () => {
  const run = await realRun(bash("kill -9 $$"));
  expect(await run.ended()).toBe(137);
  const look = async () => {
    const [found] = await lookAt(
      [{ handle: run.handle, wholeTree: false }],
      lookDeps(dirname(dirname(run.folder.path))),
    );
    return found;
  };
  expect(await look()).toMatchObject({ state: "ended", exitCode: 137, commandStarted: true });
  // What a wrapper leaves whose child is killed between the claim and the start.
  writeFileSync(run.folder.started, `${run.handle.process!.pid} 2\n`);
  expect(await look()).toMatchObject({ state: "ended", exitCode: 137, commandStarted: false });
});

test("a program that disappears before it is executed leaves the reason and nothing in the log", async () => {
  const dir = tempDir();
  const runId = "run_0000000000ab";
  const folder = runFolder(dir, runId);
  mkdirSync(join(dir, "runs"));
  createRunFolder(folder);
  const text = shellOrder({
    runId,
    folder: folder.path,
    argv: ["/nowhere/program"],
    logLimit: undefined,
    hasCgroup: false,
  });
  using file = openOrder(text, folder.path);
  const log = join(dir, "log");
  const wrapper = spawn("/bin/sh", [WRAPPER_SH, runId], {
    detached: true,
    stdio: [file.fd, openSync(log, "a"), "ignore"],
    env: {},
  });
  expect(await once(wrapper, "exit")).toEqual([127, null]);
  expect(readFileSync(log, "utf8")).toBe("");
  expect(readFileSync(folder.started, "utf8")).toMatch(/^\d+ 2\ncommand\nerror ENOENT\n$/);
  expect(identify(wrapper.pid!)).toBeUndefined();
});

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").split(" ").filter(Boolean).map(Number);
}

function isProgram(pid: number, name: string): true | undefined {
  try {
    return readFileSync(`/proc/${pid}/comm`, "latin1") === `${name}\n` || undefined;
  } catch {
    return undefined;
  }
}
