import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

import { expect, onTestFinished, test } from "vitest";

import type { Handle } from "../../../host-agent/executor/executor.ts";
import { currentBootId, identify, isAlive } from "../../../host-agent/executor/process-identity.ts";
import { commandLine, processesOf } from "../../../host-agent/executor/process-tree.ts";
import { processPasses } from "../../../host-agent/executor/process-passes.ts";
import { sendSignal } from "../../../host-agent/executor/send-signal.ts";
import { leaderOf, treeSignals } from "../../../host-agent/executor/signal-tree.ts";
import { createRunFolder, readExit, runFolder } from "../../../host-agent/executor/run-folder.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { until } from "../../support/hub.ts";

const RUN_SH = join(import.meta.dirname, "../../../host-agent/executor/run.sh");
const HERE = currentBootId();
let count = 0;

/** As for an agent that runs its jobs as its own user. */
const signals = treeSignals({
  passes: processPasses(),
  ownerOf: () => undefined,
  send: async (_owner, targets, signal) => sendSignal(targets, signal),
});

/** A run under the real wrapper, as the executor starts it, whose output is a file. */
async function startRun(script: string) {
  const dir = tempDir();
  const runId = `run_20000000${String(++count).padStart(4, "0")}`;
  const folder = runFolder(dir, runId);
  mkdirSync(join(dir, "runs"));
  createRunFolder(folder);
  const output = join(dir, "output");
  const wrapper = spawn("/bin/sh", [RUN_SH, folder.path, "/bin/bash", "-c", `exec >>${output}; ${script}`], {
    detached: true,
    stdio: "ignore",
    env: { PATH: process.env["PATH"], HUB_RUN_ID: runId },
  });
  await once(wrapper, "spawn");
  const handle: Handle = { runId, launchedIn: HERE, process: identify(wrapper.pid!)! };
  onTestFinished(() => signals.kill(handle));
  const text = () => {
    try {
      return readFileSync(output, "utf8");
    } catch {
      return "";
    }
  };
  return {
    folder,
    wrapper,
    handle,
    text,
    says: (word: string) => until(() => text().includes(word) || undefined),
  };
}

/** Says each SIGTERM and goes on. */
const SAYS_TERM = `trap 'echo "$0 term"' TERM; echo "$0 ready"; while :; do sleep 0.02; done`;

test("a signal reaches daemons in other sessions and groups, also without the run's environment, once each", async () => {
  const says = `/bin/bash -c '${SAYS_TERM.replaceAll("'", `'\\''`)}'`;
  const run = await startRun(
    `${says} child & setsid ${says} daemon & env -i setsid ${says} bare & exec ${says} command`,
  );
  const names = ["child", "daemon", "bare", "command"];
  for (const name of names) await run.says(`${name} ready`);

  expect(await signals.signal(run.handle, "SIGTERM")).toBe("sent");
  for (const name of names) await run.says(`${name} term`);
  // A second signal would have come by now.
  await pause(100);
  expect(
    run
      .text()
      .match(/\w+ term/g)!
      .toSorted(),
  ).toEqual(names.map((name) => `${name} term`).toSorted());
  expect(isAlive(identify(run.wrapper.pid!)!), "the wrapper outlives it").toBe(true);
});

test("what the wrapper has started receives the signal before the processes of the host are listed, and once", async () => {
  const says = `/bin/bash -c '${SAYS_TERM.replaceAll("'", `'\\''`)}'`;
  const run = await startRun(`setsid ${says} daemon & exec ${says} command`);
  for (const name of ["daemon", "command"]) await run.says(`${name} ready`);
  const passes = processPasses();
  const { promise: isSignalled, resolve: signalled } = Promise.withResolvers<void>();
  const late = treeSignals({
    passes: {
      async take(trees) {
        await isSignalled;
        return passes.take(trees);
      },
    },
    ownerOf: () => undefined,
    send: async (_owner, targets, signal) => sendSignal(targets, signal),
  });
  const sending = late.signal(run.handle, "SIGTERM");
  for (const name of ["daemon", "command"]) await run.says(`${name} term`);
  signalled();
  expect(await sending).toBe("sent");
  await pause(100);
  expect(run.text().match(/term/g)).toHaveLength(2);
});

test("a process that is stopped receives the signal at once, and not when somebody lets it go on", async () => {
  const run = await startRun(`trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.02; done`);
  await run.says("ready");
  const command = processesOf(run.handle.runId).find(({ ppid }) => ppid === run.wrapper.pid)!;
  process.kill(command.pid, "SIGSTOP");
  expect(await signals.signal(run.handle, "SIGTERM")).toBe("sent");
  await run.says("bye");
});

test("SIGKILL spares the wrapper, which writes the exit code of the command", async () => {
  const run = await startRun("echo ready; setsid sleep 60 & sleep 60");
  // The wrapper, its command, and two that sleep.
  await until(() => {
    const members = processesOf(run.handle.runId);
    return members.filter(({ pid }) => commandLine(pid).startsWith("sleep\0")).length === 2 || undefined;
  });
  const wrapperEnded = once(run.wrapper, "exit");
  expect(await signals.signal(run.handle, "SIGKILL")).toBe("sent");
  await wrapperEnded;
  expect(readExit(run.folder)?.code).toBe(137);
  await until(() => processesOf(run.handle.runId).length === 0 || undefined);
});

test("a run of which nothing is left is gone, for every signal", async () => {
  const run = await startRun("exit 0");
  await until(() => (processesOf(run.handle.runId, leaderOf(run.handle)).length === 0 ? true : undefined));
  for (const signal of ["SIGTERM", "SIGINT", "SIGKILL"] as const) {
    expect(await signals.signal(run.handle, signal), signal).toBe("gone");
  }
});

test("the end of a run kills also what forks without a pause, and in the end a wrapper that is stopped", async () => {
  const run = await startRun("echo ready; while :; do setsid sleep 60 & done");
  await run.says("ready");
  process.kill(run.wrapper.pid!, "SIGSTOP");
  await signals.kill(run.handle);
  expect(processesOf(run.handle.runId)).toEqual([]);
  expect(identify(run.wrapper.pid!)).toBeUndefined();
});

test("the leader of a run's group is its wrapper, alive or a zombie, of this boot, and no later process", async () => {
  const child = spawn("/bin/sleep", ["60"], { stdio: "ignore" });
  onTestFinished(() => void child.kill("SIGKILL"));
  const process = await until(() => identify(child.pid!));
  const leader = (changes: object) =>
    leaderOf({ runId: "run_x", launchedIn: HERE, process: { ...process, ...changes } });
  expect(leader({})).toBe(child.pid);
  for (const changed of [{ startTime: "1" }, { startTime: undefined }, { bootId: "another boot" }]) {
    expect(leader(changed), JSON.stringify(changed)).toBeUndefined();
  }
  expect(leaderOf({ runId: "run_x", launchedIn: HERE, process: undefined })).toBeUndefined();
});

test("a wrapper that has not started its command is waited for, until it has or is gone, and no longer than a second", async () => {
  const run = await startRun("echo ready; sleep 60");
  await signals.ready(run.handle);
  const started = processesOf(run.handle.runId).filter(({ ppid }) => ppid === run.wrapper.pid);
  expect(started.map(({ pid }) => commandLine(pid).split("\0")[0])).not.toEqual([]);

  // About to start something, as far as anybody can see: alone, and with a fork that has not become the command.
  for (const [program, ...words] of [
    ["/bin/sleep", "60"],
    ["/bin/bash", "-c", "(while :; do /bin/sleep 1; done); true"],
  ] as [string, ...string[]][]) {
    const wrapper = spawn(program, words, { stdio: "ignore", detached: true });
    const process = await until(() => identify(wrapper.pid!));
    const handle = { runId: "run_alone", launchedIn: HERE, process };
    onTestFinished(() => signals.kill(handle));
    await until(() => processesOf("", wrapper.pid).length >= (words.length === 1 ? 1 : 3) || undefined);
    const waited = await msOf(() => signals.ready(handle));
    await ended(wrapper);
    const afterEnd = await msOf(() => signals.ready(handle));
    expect(waited, program).toBeGreaterThanOrEqual(1_000);
    // A look at a busy host takes long, and counts.
    expect(waited, program).toBeLessThan(3_000);
    expect(afterEnd, program).toBeLessThan(1_000);
  }
});

async function msOf(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}

async function ended(child: ChildProcess): Promise<void> {
  const exit = once(child, "exit");
  child.kill("SIGKILL");
  await exit;
}
