import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { lookAt } from "../../../host-agent/executor/look.ts";
import { helperOrder, openOrder, shellOrder } from "../../../host-agent/executor/order-file.ts";
import { readStat } from "../../../host-agent/executor/process-identity.ts";
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
import { bash, forEachWrapper, realRun, wrapperInUse } from "./real-run.ts";

const WRAPPER_SH = join(import.meta.dirname, "../../../host-agent/executor/wrapper.sh");

/** A wrapper that the test starts itself, with a claim and an order that the test may damage. */
function bareWrapper({
  order = (whole: string) => whole,
  started,
  argv = bash("echo started"),
  shell = ["/bin/sh"],
  env = {},
}: {
  order?: (whole: string) => string;
  started?: string;
  argv?: string[];
  /** That runs the shell's wrapper. */
  shell?: [string, ...string[]];
  env?: NodeJS.ProcessEnv;
} = {}) {
  const dir = tempDir();
  const runId = "run_0000000000aa";
  const folder = runFolder(dir, runId);
  mkdirSync(join(dir, "runs"));
  createRunFolder(folder);
  if (started !== undefined) writeFileSync(folder.started, started);
  const helper = wrapperInUse();
  const write = helper === undefined ? shellOrder : helperOrder;
  const whole = write({ runId, folder: folder.path, argv, logLimit: undefined, hasCgroup: false });
  using file = openOrder(order(whole), folder.path);
  const log = join(dir, "log");
  const [program, ...args] = helper === undefined ? [...shell, WRAPPER_SH, runId] : [helper, runId];
  const wrapper = spawn(program, args, {
    cwd: dir,
    detached: true,
    stdio: [file.fd, openSync(log, "a"), "ignore", openSync(folder.path, "r")],
    env,
  });
  onTestFinished(() => void wrapper.kill("SIGKILL"));
  return { dir, folder, log, wrapper };
}

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

function isWriterOf(path: string, pid: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/fd/1`) === path;
  } catch {
    return false;
  }
}

function filesOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
}

forEachWrapper(() => {
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
    const { folder, log, wrapper } = bareWrapper({ started: "agent\n" });
    expect(await once(wrapper, "exit")).toEqual([75, null]);
    expect(readFileSync(log, "utf8")).toBe("");
    expect(readStarted(folder)).toBe("agent");
    expect(readExit(folder)).toBeUndefined();
  });

  test("a wrapper whose order is not whole claims nothing and starts nothing", async () => {
    const cuts = [() => 0, (n: number) => n - 5, (n: number) => n - 20, (n: number) => Math.floor(n / 2)];
    await Promise.all(
      cuts.map(async (cut) => {
        const { folder, log, wrapper } = bareWrapper({ order: (whole) => whole.slice(0, cut(whole.length)) });
        const [code] = (await once(wrapper, "exit")) as [number];
        expect(code, cut.toString()).toBeGreaterThan(0);
        expect(existsSync(folder.started), cut.toString()).toBe(false);
        expect(readFileSync(log, "utf8"), cut.toString()).toBe("");
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

  test("the pump of a run holds neither its folder nor the one it works in, so that a disk with them can be unmounted", async () => {
    const { dir, log, wrapper } = bareWrapper({
      argv: bash("echo ready; for i in {1..999}; do [ -e go ] && exit; sleep 0.02; done"),
    });
    await until(() => readFileSync(log, "utf8") === "ready\n" || undefined);
    const machinery = childrenOf(wrapper.pid!).filter((pid) => readStat(pid)?.pgrp === wrapper.pid);
    const pumps = machinery.flatMap((pid) => [pid, ...childrenOf(pid)]);
    expect(pumps).not.toEqual([]);
    for (const pid of pumps) {
      expect(readlinkSync(`/proc/${pid}/cwd`)).toBe("/");
      expect(filesOf(pid).filter((path) => path.startsWith(dir) && path !== log)).toEqual([]);
    }
    writeFileSync(join(dir, "go"), "");
    expect(await once(wrapper, "exit")).toEqual([0, null]);
  });

  test("a program that disappears before it is executed leaves the reason and nothing in the log", async () => {
    const { folder, log, wrapper } = bareWrapper({ argv: ["/nowhere/program"] });
    expect(await once(wrapper, "exit")).toEqual([127, null]);
    expect(readFileSync(log, "utf8")).toBe("");
    expect(readFileSync(folder.started, "utf8")).toMatch(/^\d+ 2\ncommand\nerror ENOENT\n$/);
  });

  test("a wrapper and its pump outlive the signals of faults that are sent to them", async ({ skip }) => {
    if (wrapperInUse() === undefined) skip("the shell's wrapper outlives those that a stop sends");
    const dir = tempDir();
    const run = await realRun(bash("echo one; until [ -e go ]; do sleep 0.05; done; echo two; exit 3"), {
      dir,
    });
    await run.says("one");
    const { pid } = run.handle.process!;
    const pump = childrenOf(pid).find((child) => isProgram(child, "hub-wrapper"))!;
    for (const signal of ["SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS", "SIGABRT"] as const)
      for (const target of [pump, pid]) process.kill(target, signal);
    writeFileSync(join(dir, "go"), "");
    expect(await run.ended()).toBe(3);
    expect(run.text()).toBe("one\ntwo\n");
  });
});

test("under a shell that keeps here-documents in files the output goes through a FIFO, which is gone when the command starts", async () => {
  // Bash did so before 5.1.
  const { folder, log, wrapper } = bareWrapper({
    shell: ["/bin/bash", "--posix"],
    env: { BASH_COMPAT: "50" },
    argv: bash("[ -p /dev/stdout ] && ls runs/*; exit 3"),
  });
  expect(await once(wrapper, "exit")).toEqual([3, null]);
  expect(readFileSync(log, "utf8")).toBe("exit\nstarted\n");
  expect(readExit(folder)).toMatchObject({ code: 3, isOver: true });
  // The pump, which ends when nobody can write to the FIFO any more, itself included.
  await until(() => !readdirSync("/proc").some((pid) => isWriterOf(log, pid)) || undefined);
});
