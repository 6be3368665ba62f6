import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { currentBootId, identify, readStat } from "../../../host-agent/executor/process-identity.ts";
import { processPasses } from "../../../host-agent/executor/process-passes.ts";
import { recoverRun } from "../../../host-agent/executor/recover.ts";
import { readStarted, type RunFolder, runFolder } from "../../../host-agent/executor/run-folder.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { until } from "../../support/hub.ts";

const RUN_ID = "run_00000000cafe";
const HERE = currentBootId();
/** A pid that no process has: the largest that Linux gives is 4,194,303. What is larger than this one counts as no pid. */
const NO_PID = 4_194_304;

/** The folder of a run; `started` is what its wrapper has written, undefined for no claim. */
function folderWith(started: string | undefined): RunFolder {
  const folder = runFolder(tempDir(), RUN_ID);
  mkdirSync(folder.path, { recursive: true });
  if (started !== undefined) writeFileSync(folder.started, started);
  return folder;
}

/** A folder that lists these processes as the kernel does in a cgroup. */
function cgroupOf(...pids: number[]): string {
  const cgroup = tempDir();
  writeFileSync(join(cgroup, "cgroup.procs"), pids.map((pid) => `${pid}\n`).join(""));
  return cgroup;
}

/** Two threads of this process that were started in the same tick of the kernel's clock, as V8 starts its own. */
function twins(): [lower: number, higher: number] {
  const threads = readdirSync("/proc/self/task").map((name) => readStat(Number(name))!);
  const byStart = Map.groupBy(threads, ({ startTime }) => startTime);
  const [one, other] = byStart
    .values()
    .find(({ length }) => length > 1)!
    .toSorted((a, b) => a.pid - b.pid);
  return [one!.pid, other!.pid];
}

const NO_WALK = { take: async () => expect.fail("the processes of the host were listed") };

/** A process of the run, as far as its environment says. */
async function startMember(runId = RUN_ID) {
  const child = spawn("sleep", ["60"], {
    stdio: "ignore",
    env: { PATH: process.env["PATH"], HUB_RUN_ID: runId },
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  return until(() => identify(child.pid!));
}

test("a run that nobody has claimed is claimed for good: it never starts, also when another agent asks again", async () => {
  const folder = folderWith(undefined);
  const cgroup = join(tempDir(), RUN_ID);
  mkdirSync(cgroup);
  expect(await recoverRun(RUN_ID, HERE, { folder, passes: NO_WALK, cgroup })).toBe("never_started");
  expect(existsSync(cgroup), "where a wrapper would have to enter").toBe(false);
  expect(readStarted(folder)).toBe("agent");
  expect(await recoverRun(RUN_ID, HERE, { folder, passes: processPasses() })).toBe("never_started");
});

test("a wrapper that has claimed its run and not yet written its pid is waited for, and adopted", async () => {
  const folder = folderWith("");
  // Found by its pid only: a process in the middle of execve(2) shows no environment.
  const wrapper = await startMember("run_of_nobody0");
  setTimeout(() => writeFileSync(folder.started, `${wrapper.pid}\n`), 150);
  expect(await recoverRun(RUN_ID, HERE, { folder, passes: processPasses() })).toMatchObject({
    process: { pid: wrapper.pid },
  });
});

test("a wrapper that is alive is adopted with its start time and boot", async () => {
  const wrapper = await startMember();
  const folder = folderWith(`${wrapper.pid}\n`);
  expect(await recoverRun(RUN_ID, HERE, { folder, passes: processPasses() })).toEqual({
    runId: RUN_ID,
    launchedIn: HERE,
    process: wrapper,
  });
});

test("a process that has the pid of a wrapper by now is never taken for the run", async () => {
  const other = await startMember("run_00000000beef");
  for (const pid of [other.pid, NO_PID]) {
    expect(
      await recoverRun(RUN_ID, HERE, { folder: folderWith(`${pid}\n`), passes: processPasses() }),
      String(pid),
    ).toEqual({
      runId: RUN_ID,
      launchedIn: HERE,
      process: { pid, startTime: undefined, bootId: undefined },
    });
  }
});

test("a run whose wrapper wrote no pid is adopted by a process that has its id", async () => {
  const member = await startMember();
  for (const torn of ["", "12"]) {
    expect(
      await recoverRun(RUN_ID, HERE, { folder: folderWith(torn), passes: processPasses() }),
      torn,
    ).toMatchObject({ process: member });
  }
});

test("a claim without a pid and without a process proves that nothing started, but torn bytes do not", async () => {
  expect(await recoverRun(RUN_ID, HERE, { folder: folderWith(""), passes: processPasses() })).toBe(
    "never_started",
  );
  expect(await recoverRun(RUN_ID, HERE, { folder: folderWith("torn"), passes: processPasses() })).toEqual({
    runId: RUN_ID,
    launchedIn: HERE,
    process: undefined,
  });
});

test("a run of another boot is never claimed, whatever its folder says: it may have run", async () => {
  const member = await startMember();
  for (const started of [undefined, "", `${member.pid}\n`]) {
    const folder = folderWith(started);
    expect(await recoverRun(RUN_ID, "another boot", { folder, passes: processPasses() }), started).toEqual({
      runId: RUN_ID,
      launchedIn: "another boot",
      process: undefined,
    });
    expect(readStarted(folder)).not.toBe("agent");
  }
});

/** Recovers a run in a cgroup with these processes, whose wrapper wrote no pid. */
async function adopted(...pids: number[]) {
  return recoverRun(RUN_ID, HERE, { folder: folderWith("torn"), passes: NO_WALK, cgroup: cgroupOf(...pids) });
}

/** The start of the process with this pid, if it is taken for the wrapper that has written it. */
async function startOf(pid: number, cgroup: string): Promise<string | undefined> {
  const found = await recoverRun(RUN_ID, HERE, { folder: folderWith(`${pid}\n`), passes: NO_WALK, cgroup });
  return found === "never_started" ? found : found.process?.startTime;
}

test("a run in a cgroup whose wrapper wrote no pid is adopted by the oldest process in it, of those of one tick by the lowest pid", async () => {
  const member = await startMember();
  const [lower, higher] = twins();
  // Each waits for a pid.
  expect(
    await Promise.all([
      adopted(member.pid, process.pid),
      adopted(higher, lower),
      adopted(lower, higher),
      adopted(),
    ]),
  ).toMatchObject([
    { process: identify(process.pid)! },
    { process: { pid: lower } },
    { process: { pid: lower } },
    { process: undefined },
  ]);
});

test("in a cgroup a process is the run's when it is in there, whatever its environment says; without it the environment decides", async () => {
  const [stranger, member] = [await startMember("run_of_nobody0"), await startMember()];
  expect(await startOf(stranger.pid, cgroupOf(stranger.pid))).toBe(stranger.startTime);
  expect(await startOf(member.pid, cgroupOf(stranger.pid))).toBeUndefined();
  const removed = join(tempDir(), "removed");
  expect(await startOf(member.pid, removed)).toBe(member.startTime);
  expect(await startOf(stranger.pid, removed)).toBeUndefined();
});
