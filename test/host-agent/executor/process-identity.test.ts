import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import {
  currentBootId,
  hasEnded,
  identify,
  isAlive,
  readStat,
} from "../../../host-agent/executor/process-identity.ts";
import { hasEnvironmentEntry, processesOf } from "../../../host-agent/executor/process-tree.ts";
import { until } from "../../support/hub.ts";

describe("the identity of a process", () => {
  test("is valid exactly as long as the process lives", async () => {
    const child = spawn("sleep", ["600"], { stdio: "ignore" });
    const identity = identify(child.pid!)!;

    expect(isAlive(identity)).toBe(true);
    expect(identify(child.pid!)).toEqual(identity);
    await end(child);
    expect(isAlive(identity)).toBe(false);
    expect(identify(identity.pid)).toBe(undefined);
  });

  test("differs from that of another process with the same pid, and from one before a reboot", () => {
    const self = identify(process.pid)!;

    expect(isAlive(self)).toBe(true);
    expect(isAlive({ ...self, startTime: String(Number(self.startTime) - 1) })).toBe(false);
    expect(isAlive({ ...self, startTime: "" })).toBe(false);
    expect(isAlive({ ...self, bootId: "00000000-0000-0000-0000-000000000000" })).toBe(false);
    for (const pid of [0, -1, 2 ** 22 + 1, Number.NaN]) expect(isAlive({ ...self, pid })).toBe(false);
  });

  test("of a zombie counts as ended, although kill -0 still succeeds", async () => {
    // The shell becomes a sleep, which never asks for the exit code of the shell's child.
    const parent = spawn("sh", ["-c", "sleep 0.01 & echo $!; exec sleep 600"], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    const [line] = (await once(parent.stdout, "data")) as [Buffer];
    const pid = Number(line.toString());
    const zombie = await until(() => {
      const stat = readStat(pid);
      return stat?.state === "Z" ? stat : undefined;
    });
    expect(process.kill(pid, 0)).toBe(true);
    expect(hasEnded(zombie)).toBe(true);
    expect(isAlive({ pid, startTime: zombie.startTime, bootId: currentBootId() })).toBe(false);
    expect(identify(pid)).toBe(undefined);
    await end(parent);
  });

  test("is read correctly for any program name", async () => {
    const folder = await mkdtemp(join(tmpdir(), "identity-"));
    const name = join(folder, "a) Z 1 (b\n");
    await symlink("/bin/sleep", name);
    const child = spawn(name, ["600"], { stdio: "ignore" });

    const stat = await until(() => {
      const found = readStat(child.pid!);
      return found?.state === "S" ? found : undefined;
    });
    expect(stat).toMatchObject({ pid: child.pid, ppid: process.pid });
    expect(isAlive(identify(child.pid!)!)).toBe(true);
    await end(child);
    await rm(folder, { recursive: true });
  });
});

describe("the processes of a run", () => {
  test("have its id in their environment; a longer id does not match", async () => {
    const children = ["run_aaaaaaaaaaaa", "run_aaaaaaaaaaaab"].map((id) =>
      spawn("sleep", ["600"], {
        stdio: "ignore",
        env: { PATH: process.env["PATH"], X: "1", HUB_RUN_ID: id },
      }),
    );
    const [one, other] = children as [ChildProcess, ChildProcess];

    expect(processesOf("run_aaaaaaaaaaaa").map(({ pid }) => pid)).toEqual([one.pid]);
    expect(hasEnvironmentEntry(other.pid!, "HUB_RUN_ID=run_aaaaaaaaaaaa")).toBe(false);
    for (const child of children) await end(child);
    expect(processesOf("run_aaaaaaaaaaaa")).toEqual([]);
  });
});

async function end(child: ChildProcess): Promise<void> {
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}
