import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { isPopulated, writeCgroupFile } from "../../../host-agent/executor/cgroup-files.ts";
import {
  createLeaf,
  entryOf,
  isWrapperOf,
  leafMembers,
  removeLeaf,
} from "../../../host-agent/executor/cgroup-leaf.ts";
import { sweepLeaves } from "../../../host-agent/executor/cgroup-release.ts";
import { killAll, killLeaf, signalLeaf } from "../../../host-agent/executor/cgroup-signals.ts";
import { lookAt } from "../../../host-agent/executor/look.ts";
import {
  currentBootId,
  isAlive,
  type ProcessIdentity,
} from "../../../host-agent/executor/process-identity.ts";
import { recoverRun } from "../../../host-agent/executor/recover.ts";
import { readExit, runFolder } from "../../../host-agent/executor/run-folder.ts";
import { HAS_CGROUP2, tempCgroup } from "../../support/cgroup.ts";
import { until } from "../../support/hub.ts";
import { needs, WHY_NO_CGROUP2 } from "../../support/needs.ts";
import { CAN_BE_NOBODY, NOBODY_UID, WHY_NOT_NOBODY } from "../../support/other-user.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { lookDeps } from "./look-deps.ts";
import { bash, forEachWrapper, realRun } from "./real-run.ts";

const IN_CGROUPS = needs(HAS_CGROUP2, WHY_NO_CGROUP2);
const RUN_ID = "run_3000000000aa";
/** No list of the host's processes may be needed. */
const noWalk = {
  take: async () => {
    throw new Error("the processes of the host were listed");
  },
};

/** A run under the real wrapper in a leaf, as the executor starts it. */
async function startInLeaf(script: string) {
  const stateDir = tempDir();
  const leaf = join(tempCgroup(), RUN_ID);
  createLeaf(leaf);
  const fd = openSync(entryOf(leaf), "w");
  const { handle: started, folder, runId } = await realRun(bash(script), { dir: stateDir, cgroupFd: fd });
  closeSync(fd);
  const handle = { ...started, cgroup: leaf };
  onTestFinished(() => killAll(leaf));
  const isMachinery = isWrapperOf(handle.process);
  /** The processes of the command. */
  const jobs = () => leafMembers(leaf).filter((stat) => !isMachinery(stat));
  return { leaf, stateDir, folder, handle, runId, isMachinery, jobs };
}

forEachWrapper(() => {
  test(
    "cgroup.kill ends processes that fork without a pause, and the leaf can be removed",
    IN_CGROUPS,
    async () => {
      const { leaf, isMachinery } = await startInLeaf(
        "while :; do (sleep 300 &); (setsid sh -c 'sleep 300 & sleep 300' &); sleep 0.01; done",
      );
      await until(() => leafMembers(leaf).length > 10 || undefined);
      expect(removeLeaf(leaf), "not while something is alive in it").toBe(false);
      await killLeaf(leaf, isMachinery);
      expect(await until(() => removeLeaf(leaf) || undefined)).toBe(true);
      expect(existsSync(leaf)).toBe(false);
    },
  );

  test("SIGKILL spares the wrapper, which writes the exit code", IN_CGROUPS, async () => {
    const { leaf, folder, jobs, isMachinery } = await startInLeaf("exec sleep 300");
    await until(() => jobs().length === 1 || undefined);
    await killLeaf(leaf, isMachinery);
    expect(readExit(folder)?.code).toBe(137);
  });

  test("a signal reaches processes in cgroups that the run has made below its leaf", IN_CGROUPS, async () => {
    const { leaf, jobs } = await startInLeaf("sleep 300 & exec sleep 300");
    await until(() => jobs().length === 2 || undefined);
    const before = leafMembers(leaf).length;
    const nested = join(leaf, "own", "deeper");
    mkdirSync(nested, { recursive: true });
    const [moved] = jobs();
    writeCgroupFile(nested, "cgroup.procs", String(moved!.pid));
    expect(leafMembers(leaf)).toHaveLength(before);
    expect(await signalLeaf(leaf, "SIGTERM", () => false)).toBe("sent");
    await until(() => removeLeaf(leaf) || undefined);
  });

  test("a signal to a leaf that is gone is `gone`", async () => {
    expect(await signalLeaf(join(tempDir(), "none"), "SIGTERM", () => false)).toBe("gone");
    await killLeaf(join(tempDir(), "none"), () => false);
  });

  test("a look at a run with a leaf lists no processes of the host", IN_CGROUPS, async () => {
    const { leaf, stateDir, handle, jobs } = await startInLeaf("setsid sleep 300 & wait");
    await until(() => jobs().length === 2 || undefined);
    const look = async () =>
      (await lookAt([{ handle, wholeTree: false }], { ...lookDeps(stateDir), passes: noWalk }))[0]!;
    expect((await look()).state).toBe("running");
    const wrapper = handle.process as ProcessIdentity;
    process.kill(wrapper.pid, "SIGKILL");
    await until(() => !isAlive(wrapper) || undefined);
    expect((await look()).state).toBe("orphaned");
    writeCgroupFile(leaf, "cgroup.kill", "1");
    await until(() => isPopulated(leaf) === false || undefined);
    expect(await look()).toMatchObject({
      state: "ended",
      exitCode: undefined,
      cgroup: { leftBehind: 0, oomKills: 0 },
    });
  });

  test(
    "an adopted run is found by its leaf, and a forged pid of another process is not taken for it",
    IN_CGROUPS,
    async () => {
      const { leaf, folder, handle, runId, jobs } = await startInLeaf("exec sleep 300");
      await until(() => jobs().length === 1 || undefined);
      const recover = async () =>
        recoverRun(runId, currentBootId(), { folder, passes: noWalk, cgroup: leaf });
      expect(await recover()).toEqual(handle);
      writeFileSync(folder.started, `${process.pid}\n`);
      expect(await recover()).toMatchObject({ process: { pid: process.pid, startTime: undefined } });
      writeFileSync(folder.started, "nonsense\n");
      expect(await recover(), "the oldest process of the leaf").toEqual(handle);
    },
  );

  test(
    "the sweep ends what a run with `kill_left_behind` left, and nothing of a run without it",
    IN_CGROUPS,
    async () => {
      const { leaf, jobs } = await startInLeaf("exec sleep 300");
      await until(() => jobs().length === 1 || undefined);
      await sweepLeaves(join(leaf, ".."), () => ({ kill: false }));
      expect(isPopulated(leaf)).toBe(true);
      await sweepLeaves(join(leaf, ".."), () => ({ kill: true }));
      // The sweep itself may have removed it by then.
      await until(() => isPopulated(leaf) !== true || undefined);
      await sweepLeaves(join(leaf, ".."), () => ({ kill: false }));
      expect(existsSync(leaf)).toBe(false);
    },
  );
});

test(
  "a run that the agent claims first loses its leaf, so that no wrapper can enter it",
  IN_CGROUPS,
  async () => {
    const leaf = join(tempCgroup(), RUN_ID);
    createLeaf(leaf);
    const folder = runFolder(tempDir(), RUN_ID);
    expect(await recoverRun(RUN_ID, currentBootId(), { folder, passes: noWalk, cgroup: leaf })).toBe(
      "never_started",
    );
    expect(existsSync(leaf)).toBe(false);
  },
);

test(
  "the sweep removes the leaves of ended runs, and none of a live run, of another state folder or with another name",
  IN_CGROUPS,
  async () => {
    const root = tempCgroup();
    const names = ["run_0000000000e1", "run_0000000000e2", "run_0000000000e3", "agent", "mine"];
    for (const name of names) createLeaf(join(root, name));
    const known = new Map([
      ["run_0000000000e1", { kill: false }],
      ["agent", { kill: true }],
    ]);
    await sweepLeaves(root, (runId) => known.get(runId));
    expect(names.filter((name) => existsSync(join(root, name)))).toEqual(names.slice(1));
  },
);

test(
  "a process of another user cannot leave its leaf",
  needs(HAS_CGROUP2 && CAN_BE_NOBODY, HAS_CGROUP2 ? WHY_NOT_NOBODY : WHY_NO_CGROUP2),
  async () => {
    const root = tempCgroup();
    const [leaf, other] = [join(root, RUN_ID), join(root, "other")];
    for (const each of [leaf, other]) createLeaf(each);
    const fd = openSync(entryOf(leaf), "w");
    const escape =
      'echo 0 >&3; exec 3>&-; for to in "$@"; do { echo 0 >"$to/cgroup.procs"; } 2>/dev/null && echo "left to $to"; done; sed -n s/^0:://p /proc/self/cgroup';
    const child = spawn("/bin/sh", ["-c", escape, "sh", leaf, other, root, join(root, "..")], {
      uid: NOBODY_UID,
      cwd: "/",
      stdio: ["ignore", "pipe", "inherit", fd],
    });
    closeSync(fd);
    let output = "";
    child.stdout!.setEncoding("utf8").on("data", (text: string) => (output += text));
    await once(child, "close");
    expect(output.trim().split("\n")).toEqual([expect.stringMatching(new RegExp(`/${RUN_ID}$`))]);
  },
);
