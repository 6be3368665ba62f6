import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { expect, onTestFinished, test } from "vitest";

import { localExecutor } from "../../../host-agent/executor/local.ts";
import { currentBootId, identify } from "../../../host-agent/executor/process-identity.ts";
import { processesOf } from "../../../host-agent/executor/process-tree.ts";
import {
  createRunFolder,
  isCommandApart,
  readExit,
  runFolder,
} from "../../../host-agent/executor/run-folder.ts";
import { until } from "../../support/hub.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { bash, realRun } from "./real-run.ts";

/** The wrapper of version 1.0, as it was released. */
const RELEASED = fileURLToPath(new URL("fixtures/run-1.0.sh", import.meta.url));
/** What an agent of version 1.0 starts, while its files are replaced. */
const STUBS = ["run.sh", "executor/run.sh"].map((path) =>
  fileURLToPath(new URL(`../../../host-agent/${path}`, import.meta.url)),
);
let count = 0;

/** A run that an agent of version 1.0 has started, and the executor of the present one. */
async function oldRun(wrapper: string, script: string) {
  const stateDir = tempDir();
  const runId = `run_40000000${String(++count).padStart(4, "0")}`;
  const folder = runFolder(stateDir, runId);
  mkdirSync(join(stateDir, "runs"));
  createRunFolder(folder);
  const log = join(stateDir, "log");
  const fd = openSync(log, "a");
  const child = spawn("/bin/sh", [wrapper, folder.path, ...bash(script)], {
    detached: true,
    stdio: ["ignore", fd, fd],
    env: { PATH: process.env["PATH"], HUB_RUN_ID: runId },
  });
  await once(child, "spawn");
  const handle = { runId, launchedIn: currentBootId(), process: identify(child.pid!)! };
  const executor = localExecutor({ stateDir, env: {}, runUser: undefined });
  onTestFinished(() => executor.kill(handle));
  const look = (wholeTree = false) => executor.look([{ handle, wholeTree }]).then(([found]) => found!);
  return { runId, folder, handle, executor, look, child, text: () => readFileSync(log, "utf8") };
}

test("a run that version 1.0 started is adopted, keeps its log and exit code, and is finished by the old rules", async () => {
  for (const wrapper of [RELEASED, ...STUBS]) {
    const dir = tempDir();
    const run = await oldRun(
      wrapper,
      `echo on; until [ -e ${dir}/go ]; do sleep 0.02; done; echo off; exit 6`,
    );
    await until(() => run.text() === "on\n" || undefined);
    expect(await run.executor.recover(run.runId, currentBootId())).toEqual(run.handle);
    expect(await run.look()).toEqual({ state: "running" });
    expect(isCommandApart(run.folder)).toBe(false);
    writeFileSync(join(dir, "go"), "");
    await until(async () => (await run.look()).state === "ended" || undefined);
    expect(await run.look()).toMatchObject({ exitCode: 6, commandStarted: true });
    expect(run.text()).toBe("on\noff\n");
  }
});

test("a run that version 1.0 started is killed with its group, and its wrapper keeps the exit code", async () => {
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    const run = await oldRun(RELEASED, "env -i sleep 60 & echo on; sleep 60");
    await until(() => run.text() === "on\n" || undefined);
    expect(await run.executor.signal(run.handle, signal)).toBe("sent");
    await until(async () => (await run.look(true)).state === "ended" || undefined);
    expect(readExit(run.folder)?.code).toBe(signal === "SIGTERM" ? 143 : 137);
    expect(processesOf(run.runId)).toEqual([]);
  }
});

test("the folder of a run tells the versions of its wrapper apart", async () => {
  const run = await realRun(bash("exit 0"));
  await run.ended();
  expect(isCommandApart(run.folder)).toBe(true);
  expect(readFileSync(run.folder.started, "utf8")).toBe(`${run.handle.process!.pid} 2\ncommand\n`);
});
