import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmod } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, onTestFinished, test } from "vitest";

import { identify, isAlive } from "../../../host-agent/executor/process-identity.ts";
import { processesOf } from "../../../host-agent/executor/process-tree.ts";
import { sendSignal, sendSignalAs } from "../../../host-agent/executor/send-signal.ts";
import { startHub, until } from "../../support/hub.ts";
import { needs } from "../../support/needs.ts";
import { CAN_BE_NOBODY, NOBODY_UID, WHY_NOT_NOBODY } from "../../support/other-user.ts";

const REUSE_PID = join(import.meta.dirname, "fixtures", "reuse-pid.ts");
const NOBODY = { uid: NOBODY_UID, gid: NOBODY_UID };
const CAN_HAVE_PIDS =
  process.getuid?.() === 0 &&
  spawnSync("unshare", [
    "--pid",
    "--fork",
    "--mount-proc",
    "sh",
    "-c",
    "echo 100 >/proc/sys/kernel/ns_last_pid",
  ]).status === 0;

/** A process that sleeps; ended with the test. */
async function sleeper(options: { uid?: number; gid?: number; env?: Record<string, string> } = {}) {
  const child = spawn("sleep", ["600"], { stdio: "ignore", detached: true, ...options });
  onTestFinished(() => void child.kill("SIGKILL"));
  await once(child, "spawn");
  return { child, identity: await until(() => identify(child.pid!)) };
}

describe("a signal to a run of another user", needs(CAN_BE_NOBODY, WHY_NOT_NOBODY), () => {
  test("reaches that user's processes and groups, and the kernel refuses it for every other process", async () => {
    const [theirs, group, roots] = [await sleeper(NOBODY), await sleeper(NOBODY), await sleeper()];
    const ended = [once(theirs.child, "exit"), once(group.child, "exit")];
    const targets = [
      roots.identity,
      theirs.identity,
      { pid: -group.identity.pid, startTime: group.identity.startTime },
      { pid: -roots.identity.pid, startTime: roots.identity.startTime },
      { pid: 4_194_304, startTime: "1" },
    ];
    expect(await sendSignalAs(NOBODY, targets, "SIGKILL")).toEqual([
      "refused",
      "sent",
      "sent",
      "refused",
      "gone",
    ]);
    await Promise.all(ended);
    expect(isAlive(roots.identity)).toBe(true);
  });

  test("does not reach a process of root that carries the id of the run, and the run ends without it", async () => {
    await using hub = await startHub({ env: { HUB_RUN_AS: "nobody" } });
    await chmod(hub.dir, 0o755);
    const run = await hub.runScript("sleep 60");
    const roots = await sleeper({ env: { PATH: process.env["PATH"]!, HUB_RUN_ID: run.run_id } });
    await until(() => processesOf(run.run_id).some(({ pid }) => pid === roots.identity.pid) || undefined);

    await hub.kill(run, { signal: "SIGKILL" });

    expect(await hub.ended(run)).toMatchObject({ status: "killed" });
    expect(isAlive(roots.identity)).toBe(true);
  });
});

test(
  "a signal never reaches a process that has the pid of an ended one of the run",
  needs(CAN_HAVE_PIDS, "this user may not choose pids in a separate namespace"),
  () => {
    // In a separate pid namespace: whatever goes wrong there harms nobody here.
    const { stdout, stderr } = spawnSync(
      "unshare",
      ["--pid", "--fork", "--kill-child", "--mount-proc", process.execPath, REUSE_PID],
      { encoding: "utf8", timeout: 120_000 },
    );
    expect(stderr).toBe("");
    expect(JSON.parse(stdout)).toEqual({ isSamePid: true, own: ["gone"], as: ["gone"], isAlive: true });
  },
);

test("the answer to a signal distinguishes what it reached from what is gone", async () => {
  const { child, identity } = await sleeper();
  const ended = once(child, "exit");
  expect(sendSignal([{ ...identity, startTime: "1" }, identity], "SIGTERM")).toEqual(["gone", "sent"]);
  await ended;
  expect(sendSignal([identity], "SIGTERM")).toEqual(["gone"]);
});
