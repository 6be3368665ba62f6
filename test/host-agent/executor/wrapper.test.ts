import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { readStat } from "../../../host-agent/executor/process-identity.ts";
import {
  createRunFolder,
  readExit,
  readStarted,
  type RunFolder,
  runFolder,
} from "../../../host-agent/executor/run-folder.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { until } from "../../support/hub.ts";

const RUN_SH = join(import.meta.dirname, "../../../host-agent/executor/run.sh");

/** The folder of a run that is about to start. */
function newFolder(): RunFolder {
  const stateDir = tempDir();
  mkdirSync(join(stateDir, "runs"));
  const folder = runFolder(stateDir, "run_0000000000aa");
  createRunFolder(folder);
  return folder;
}

/** Starts the wrapper as the executor does, with its log in the run's folder of the test. */
function startWrapper({ path }: RunFolder, command: string[]): { wrapper: ChildProcess; log: string } {
  const log = join(path, "..", "log");
  const fd = openSync(log, "a");
  const wrapper = spawn("/bin/sh", [RUN_SH, path, ...command], {
    detached: true,
    stdio: ["ignore", fd, fd, openSync(path, "r")],
  });
  onTestFinished(() => {
    try {
      process.kill(-wrapper.pid!, "SIGKILL");
    } catch {
      // It has ended.
    }
  });
  return { wrapper, log };
}

const sh = (script: string, ...words: string[]) => ["/bin/sh", "-c", script, "sh", ...words];

test("the exit code has its space on the disk before the command starts, and is written into it", async () => {
  const folder = newFolder();
  const before = statSync(folder.exit);
  expect(before.size).toBeGreaterThanOrEqual("255\n".length);
  expect(readExit(folder)).toBeUndefined();
  for (const code of [0, 7, 255]) {
    rmSync(folder.started, { force: true });
    writeFileSync(folder.exit, " ".repeat(before.size), { flag: "r+" });
    const { wrapper } = startWrapper(folder, sh(`exit ${code}`));
    expect(await once(wrapper, "exit")).toEqual([code, null]);
    expect(readExit(folder)?.code).toBe(code);
    const after = statSync(folder.exit);
    expect([after.ino, after.size], "the same file, neither longer nor cut").toEqual([
      before.ino,
      before.size,
    ]);
  }
});

test("a wrapper that finds its run claimed starts nothing", async () => {
  const folder = newFolder();
  writeFileSync(folder.started, "agent\n");
  const { wrapper, log } = startWrapper(folder, sh("echo started"));
  expect(await once(wrapper, "exit")).toEqual([75, null]);
  expect(readFileSync(log, "utf8")).toBe("");
  expect(readStarted(folder)).toBe("agent");
  expect(readExit(folder)).toBeUndefined();
});

test("a wrapper has written its pid when its command starts, and stays its parent", async () => {
  const folder = newFolder();
  const { wrapper, log } = startWrapper(folder, sh('cat "$1"; echo $PPID; true', folder.started));
  await once(wrapper, "exit");
  expect(readFileSync(log, "utf8")).toBe(`${wrapper.pid}\n${wrapper.pid}\n`);
});

test("a wrapper outlives the signals to its run, and its command gets their default action", async () => {
  for (const signal of ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "ALRM", "PIPE"]) {
    const folder = newFolder();
    const { wrapper } = startWrapper(folder, ["/bin/sleep", "60"]);
    // oxlint-disable-next-line no-await-in-loop -- one signal at a time
    const command = await until(() => {
      const [child] = readFileSync(`/proc/${wrapper.pid}/task/${wrapper.pid}/children`, "latin1").split(" ");
      const isCommand =
        child !== undefined &&
        child !== "" &&
        readFileSync(`/proc/${child}/cmdline`, "latin1").startsWith("/bin/sleep");
      return isCommand ? Number(child) : undefined;
    });
    const exit = once(wrapper, "exit");
    process.kill(wrapper.pid!, `SIG${signal}`);
    process.kill(command, `SIG${signal}`);
    // oxlint-disable-next-line no-await-in-loop -- one signal at a time
    const [code] = (await exit) as [number];
    expect(code, signal).toBeGreaterThan(128);
    expect(readExit(folder)?.code, signal).toBe(code);
    expect(readStat(command)).toBeUndefined();
  }
});

test("a command gets its words as they are, no descriptor of the run's folder, and an exit code without a folder", async () => {
  const folder = newFolder();
  const words = ["a b", "$HOME", "'", "", "*"];
  const { wrapper, log } = startWrapper(
    folder,
    sh('printf "<%s>" "$@"; ls -l /proc/self/fd | grep -c "$0" ; rm -r "$0"; exit 9', ...words).with(
      3,
      folder.path,
    ),
  );
  expect(await once(wrapper, "exit")).toEqual([9, null]);
  expect(readFileSync(log, "utf8")).toBe("<a b><$HOME><'><><*>0\n");
  expect(existsSync(folder.path)).toBe(false);
  expect(readdirSync(join(folder.path, ".."))).toEqual(["log"]);
});
