import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { expect, onTestFinished, test } from "vitest";

import type { Handle, HandleProcess } from "../../../host-agent/executor/executor.ts";
import { lookAt } from "../../../host-agent/executor/look.ts";
import { lookDeps } from "./look-deps.ts";
import {
  currentBootId,
  identify,
  type ProcessIdentity,
  readStat,
} from "../../../host-agent/executor/process-identity.ts";
import { processPasses, type ProcessPasses } from "../../../host-agent/executor/process-passes.ts";
import type { ProcessList } from "../../../host-agent/executor/process-tree.ts";
import { createRunFolder, runFolder } from "../../../host-agent/executor/run-folder.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { unprivileged } from "../../support/unprivileged.ts";
import { until } from "../../support/hub.ts";

const HERE = currentBootId();
const EXIT_AT_MS = 1_700_000_000_500;
/** A wrapper that is gone. */
const GONE: HandleProcess = { pid: 4_194_305, startTime: "1", bootId: HERE };
const LOOK = fileURLToPath(new URL("fixtures/look-without-descriptors.ts", import.meta.url));
let count = 0;

/** A run in a separate state folder, with a way to look at it. */
function runWith({ exit, started = "1\n" }: { exit?: string; started?: string | null } = {}) {
  const stateDir = tempDir();
  const runId = `run_10000000${String(++count).padStart(4, "0")}`;
  const folder = runFolder(stateDir, runId);
  mkdirSync(`${stateDir}/runs`);
  createRunFolder(folder);
  if (started !== null) writeFileSync(folder.started, started);
  if (exit !== undefined) writeFileSync(folder.exit, exit);
  utimesSync(folder.exit, EXIT_AT_MS / 1000, EXIT_AT_MS / 1000);
  function look({ wholeTree = false, ...known }: Partial<Handle> & { wholeTree?: boolean } = {}) {
    const handle = { runId, process: GONE, launchedIn: HERE, ...known };
    return lookAt([{ handle, wholeTree }], lookDeps(stateDir)).then(([found]) => found!);
  }
  return { runId, folder, stateDir, look };
}

async function startProcess(runId: string, { detached = false } = {}): Promise<ProcessIdentity> {
  const child = spawn("sleep", ["60"], {
    stdio: "ignore",
    detached,
    env: { PATH: process.env["PATH"], HUB_RUN_ID: runId },
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  return until(() => identify(child.pid!));
}

const ENDED = {
  state: "ended",
  exitCode: undefined,
  unreadable: undefined,
  at: undefined,
  rebooted: false,
  commandStarted: true,
};

test("a run is running while its very wrapper is alive and no exit code is written", async () => {
  const run = runWith();
  const wrapper = await startProcess("run_of_nobody1");
  expect(await run.look({ process: wrapper })).toEqual({ state: "running" });
  for (const changed of [
    { startTime: "1" },
    { startTime: undefined },
    { bootId: "another boot" },
    { bootId: undefined },
  ]) {
    const { state } = await run.look({ process: { ...wrapper, ...changed } });
    expect(state, JSON.stringify(changed)).toBe("ended");
  }
});

test("an exit code ends the run although its wrapper is alive, at the time at which it was written", async () => {
  const run = runWith({ exit: "  7\n    " });
  const wrapper = await startProcess("run_of_nobody2");
  expect(await run.look({ process: wrapper })).toEqual({ ...ENDED, exitCode: 7, at: EXIT_AT_MS });
});

test("an exit code of a run that was signalled ends it only once its whole tree is gone", async () => {
  const run = runWith({ exit: "143\n" });
  const member = await startProcess(run.runId);
  expect(await run.look({ wholeTree: true })).toEqual({ state: "lingering" });
  expect(await run.look({ wholeTree: false })).toMatchObject({ state: "ended", exitCode: 143 });
  process.kill(member.pid, "SIGKILL");
  await until(async () => ((await run.look({ wholeTree: true })).state === "ended" ? true : undefined));
});

test("a run without wrapper and exit code is orphaned while anything of it is alive, and then ended", async () => {
  const run = runWith();
  const member = await startProcess(run.runId);
  expect(await run.look()).toEqual({ state: "orphaned" });
  process.kill(member.pid, "SIGKILL");
  await until(async () => ((await run.look()).state === "ended" ? true : undefined));
  expect(await run.look()).toEqual(ENDED);
});

test("the members of the group of a wrapper that is a zombie belong to its run, whatever their environment", async () => {
  const run = runWith();
  // The shell becomes a zombie only while nobody waits for it: its parent is a program that never does.
  const parent = spawn(
    "/bin/sh",
    ["-c", `setsid env -i /bin/sh -c 'env -i /bin/sleep 60 & echo $$; kill -KILL $$' & exec sleep 60`],
    { stdio: ["ignore", "pipe", "ignore"] },
  );
  onTestFinished(() => void parent.kill("SIGKILL"));
  const [output] = (await once(parent.stdout, "data")) as [Buffer];
  const pid = Number(String(output));
  onTestFinished(() => void process.kill(-pid, "SIGKILL"));
  const zombie = await until(() => {
    const stat = readStat(pid);
    return stat?.state === "Z" ? stat : undefined;
  });
  const wrapper = { pid, startTime: zombie.startTime, bootId: HERE };
  expect(await run.look({ process: wrapper })).toEqual({ state: "orphaned" });
  expect(await run.look({ process: { ...wrapper, startTime: "1" } }), "of another process").toEqual(ENDED);
});

test("a run that ended in another boot of the host reports that the host was restarted", async () => {
  const { look } = runWith();
  expect(await look({ process: { ...GONE, bootId: "another boot" } })).toEqual({ ...ENDED, rebooted: true });
  expect(await look({ process: { ...GONE, bootId: undefined } })).toEqual(ENDED);
  const launchedElsewhere = await look({ process: undefined, launchedIn: "another boot" });
  expect(launchedElsewhere, "its process was never recorded").toEqual({ ...ENDED, rebooted: true });
});

test("only an untouched folder of this boot proves that the command never started", async () => {
  const untouched = { ...ENDED, commandStarted: false };
  expect(await runWith({ started: null }).look()).toEqual(untouched);
  expect(await runWith({ started: "" }).look()).toEqual(untouched);
  expect(await runWith({ started: "" }).look({ process: undefined }), "no process recorded").toEqual(
    untouched,
  );
  expect(await runWith({ started: "1\n" }).look()).toEqual(ENDED);
  const elsewhere = { ...GONE, bootId: "another boot" };
  expect(await runWith({ started: "" }).look({ process: elsewhere })).toEqual({ ...ENDED, rebooted: true });
  const gone = runWith({ started: "" });
  rmSync(gone.folder.path, { recursive: true });
  expect(await gone.look(), "the folder was removed").toEqual(ENDED);
});

test("a run that cannot be looked at for lack of descriptors is unavailable, and not ended", () => {
  const { stateDir, runId } = runWith({ exit: "0\n" });
  const looked = spawnSync(
    "/bin/sh",
    ["-c", 'ulimit -n 64; exec "$@"', "sh", process.execPath, LOOK, stateDir, runId],
    {
      encoding: "utf8",
    },
  );
  expect(looked.stderr).toBe("");
  expect(JSON.parse(looked.stdout)).toMatchObject({ state: "unavailable", cause: { code: "EMFILE" } });
});

test("an exit code that cannot be read now leaves the run undecided until the patience is over, and then proves nothing", async () => {
  const run = runWith({ exit: "0\n", started: "" });
  for (const path of [run.stateDir, `${run.stateDir}/runs`, run.folder.path]) chmodSync(path, 0o755);
  chmodSync(run.folder.exit, 0);
  const cleared: string[] = [];
  let isOver = false;
  const patience = { isOver: () => isOver, clear: (name: string) => void cleared.push(name) };
  const handle = { runId: run.runId, process: GONE, launchedIn: HERE };
  const look = () =>
    unprivileged(() => lookAt([{ handle, wholeTree: false }], { ...lookDeps(run.stateDir), patience }));

  expect(await look()).toEqual([{ state: "unreadable", errno: "EACCES" }]);
  isOver = true;
  expect(await look()).toEqual([{ ...ENDED, unreadable: "EACCES" }]);
  expect(cleared).toEqual([]);

  chmodSync(run.folder.exit, 0o644);
  expect(await look()).toMatchObject([{ state: "ended", exitCode: 0, unreadable: undefined }]);
  expect(cleared).toEqual([run.runId]);
});

test("a claim that cannot be read does not prove that the command never started", async () => {
  const run = runWith({ started: "" });
  for (const path of [run.stateDir, `${run.stateDir}/runs`, run.folder.path]) chmodSync(path, 0o755);
  chmodSync(run.folder.exit, 0o644);
  chmodSync(run.folder.started, 0);
  expect(await unprivileged(() => run.look())).toEqual(ENDED);
});

/** Real lists of the processes of the host, of which the test may hide some; `asked` counts the trees of each. */
function watchedPasses(listOf: (list: ProcessList, index: number) => ProcessList = (list) => list) {
  const real = processPasses();
  const asked: number[] = [];
  const passes: ProcessPasses = {
    async take(trees) {
      asked.push(trees.length);
      const index = asked.length;
      return listOf(await real.take(trees), index);
    },
  };
  return { asked, passes };
}

const NO_PROCESSES: ProcessList = { of: () => [], childrenOf: () => [] };

test("the processes of the host are listed only for runs whose wrapper is over, and again only for those of which nothing was found", async () => {
  const stateDir = tempDir();
  const [alive, exited, orphan, gone] = [runWith(), runWith({ exit: "0\n" }), runWith(), runWith()];
  const wrapper = await startProcess("run_of_nobody3");
  await startProcess(orphan.runId);
  const { asked, passes } = watchedPasses();
  const statesOf = async (runs: { runId: string; stateDir: string; process?: ProcessIdentity }[]) => {
    const looks = runs.map(({ runId, process = GONE }) => ({
      handle: { runId, process, launchedIn: HERE },
      wholeTree: false,
    }));
    // One state folder for all: their folders are linked into it.
    for (const { runId, stateDir: from } of runs) {
      mkdirSync(`${stateDir}/runs`, { recursive: true });
      symlinkSync(`${from}/runs/${runId}`, `${stateDir}/runs/${runId}`);
    }
    return (await lookAt(looks, { ...lookDeps(stateDir), passes })).map(({ state }) => state);
  };
  expect(await statesOf([{ ...alive, process: wrapper }, exited])).toEqual(["running", "ended"]);
  expect(asked).toEqual([]);
  rmSync(`${stateDir}/runs`, { recursive: true });
  expect(await statesOf([exited, orphan, gone])).toEqual(["ended", "orphaned", "ended"]);
  expect(asked).toEqual([2, 1]);
  rmSync(`${stateDir}/runs`, { recursive: true });
  expect(await statesOf([orphan])).toEqual(["orphaned"]);
  expect(asked, "nothing is left to look for").toEqual([2, 1, 1]);
});

test("a process that a first list lacks, because it was started meanwhile, is found by a second one", async () => {
  const run = runWith();
  await startProcess(run.runId);
  const look = { handle: { runId: run.runId, process: GONE, launchedIn: HERE }, wholeTree: false };
  const { asked, passes } = watchedPasses((list, index) => (index === 1 ? NO_PROCESSES : list));
  expect(await lookAt([look], { ...lookDeps(run.stateDir), passes })).toEqual([{ state: "orphaned" }]);
  expect(asked).toEqual([1, 1]);
});

test("without a list of the host's processes only the runs that need one are unavailable, and an error of ours is thrown", async () => {
  const run = runWith();
  const look = { handle: { runId: run.runId, process: GONE, launchedIn: HERE }, wholeTree: false };
  const wrapper = await startProcess("run_of_nobody4");
  const alive = { handle: { ...look.handle, process: wrapper }, wholeTree: false };
  const lookWithout = (cause: Error) =>
    lookAt([look, alive], { ...lookDeps(run.stateDir), passes: { take: () => Promise.reject(cause) } });
  const cause = Object.assign(new Error("no descriptors"), { code: "EMFILE" });
  expect(await lookWithout(cause)).toEqual([{ state: "unavailable", cause }, { state: "running" }]);
  await expect(lookWithout(new TypeError("ours"))).rejects.toThrow("ours");
});

test("an error of ours is thrown, and not taken for a host that lacks something", async () => {
  await expect(
    lookAt([{ handle: undefined as never, wholeTree: false }], lookDeps(tempDir())),
  ).rejects.toThrow(TypeError);
});
