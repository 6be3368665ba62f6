import { chmodSync, writeFileSync } from "node:fs";

import { describe, expect, onTestFinished, test, vi } from "vitest";

import { logIdentity } from "../../../host-agent/logs/log-limit.ts";
import { unprivileged } from "../../support/unprivileged.ts";
import { endedWith } from "./scripted-executor.ts";

import { NOW, SELF, INTERRUPTED, fullDisk, world } from "./observe-world.ts";

describe("what cannot be read or written now", () => {
  const UNWRITTEN = "Its state has changed, but the host cannot write that now: its disk may be full.";

  test("an exit code that cannot be read is reported once, with its errno, and the run stays alive", async () => {
    const { start, executor, reconcile, reconcileAll } = world();
    const run = start();
    executor.seen.set(run.runId, { state: "unreadable", errno: "EIO" });
    const waiting = await reconcile(run);
    expect(waiting).toMatchObject({
      status: "running",
      endedAt: undefined,
      statusReason: "Its exit code cannot be read now (EIO); the host-agent tries again for up to 5 minutes.",
    });
    expect(await reconcileAll([waiting])).toEqual({
      runs: [waiting],
      failures: [],
      unsure: new Set([run.runId]),
    });
  });

  test("a log is tried for five minutes before its run ends without it", async () => {
    const { start, executor, reconcile } = world();
    const run = start();
    executor.seen.set(run.runId, endedWith(0));
    let now = 0;
    const clock = vi.spyOn(performance, "now").mockImplementation(() => now);
    onTestFinished(() => clock.mockRestore());
    chmodSync(run.logPath, 0);
    const found: string[] = [];
    for (now of [0, 299_999, 300_000]) found.push((await unprivileged(() => reconcile(run))).status);
    expect(found).toEqual(["running", "running", "completed"]);
  });

  test("a change for which the disk has no space is not reported, and said until a write succeeds", async () => {
    for (const many of [true, false]) {
      const { start, store, executor, reconcile, reconcileAll, state, writeError } = world();
      const run = start();
      executor.seen.set(run.runId, endedWith(0));
      const now = async () => (many ? (await reconcileAll([run])).runs[0] : reconcile(run));
      const full = fullDisk();
      state.onWrite = () => {
        throw full;
      };
      // oxlint-disable-next-line no-await-in-loop -- a store each
      expect(await now(), String(many)).toEqual({ ...run, statusReason: UNWRITTEN });
      expect(store.get(run.runId)).toEqual(run);
      expect(writeError()).toBe(full);

      state.onWrite = () => {};
      // oxlint-disable-next-line no-await-in-loop -- a store each
      expect(await now(), String(many)).toMatchObject({ status: "completed" });
      expect(writeError()).toBeUndefined();
    }
  });

  test("what could not be written, and was written by another agent since, is no error any more", async () => {
    const { start, store, executor, reconcileAll, state, writeError } = world();
    const run = start();
    executor.seen.set(run.runId, endedWith(0));
    const full = fullDisk();
    state.onWrite = () => {
      throw full;
    };
    await reconcileAll([run]);
    expect(writeError()).toBe(full);
    store.change(run, { status: "completed", endedAt: 7_000 });
    await reconcileAll([run]);
    expect(writeError()).toBeUndefined();
  });

  test("a change that fails for another reason is thrown, and one of many is a separate failure", async () => {
    const { start, store, executor, reconcile, reconcileAll, state, writeError } = world();
    const [run, other] = [start(), start()];
    for (const { runId } of [run, other]) executor.seen.set(runId, endedWith(0));
    const fault = new TypeError("ours");
    state.onWrite = (runId) => {
      if (runId === run.runId) throw fault;
    };
    await expect(reconcile(run)).rejects.toBe(fault);
    const { runs, failures } = await reconcileAll([run, other]);
    expect(failures).toEqual([fault]);
    expect(runs.map(({ status }) => status)).toEqual(["running", "completed"]);
    expect(store.get(run.runId)).toEqual(run);
    expect(writeError()).toBeUndefined();
  });

  test("on a full disk the changes of many are written one by one, for some of which there is space", async () => {
    const { start, store, executor, reconcileAll, state, writeError } = world();
    const runs = [start(), start()];
    for (const { runId } of runs) executor.seen.set(runId, endedWith(0));
    const full = fullDisk();
    let writes = 0;
    state.onManyWrites = () => {
      writes++;
      throw full;
    };
    expect((await reconcileAll(runs)).runs.map(({ status }) => status)).toEqual(["completed", "completed"]);
    expect(writes).toBe(1);
    expect(writeError()).toBeUndefined();

    // The disk gets full in the middle of the one write, all of which is undone.
    let changes = 0;
    state.onManyWrites = () => {};
    state.onWrite = () => {
      if (++changes === 2) throw full;
    };
    const more = [start(), start()];
    for (const { runId } of more) executor.seen.set(runId, endedWith(0));
    expect((await reconcileAll(more)).runs.map(({ status }) => status)).toEqual(["completed", "completed"]);
    expect(more.map(({ runId }) => store.get(runId)?.status)).toEqual(["completed", "completed"]);
    expect(changes).toBe(4);
    expect(writeError()).toBeUndefined();

    // Nothing is left to write: what could not be written was.
    state.onManyWrites = () => expect.fail("nothing was to be written");
    await reconcileAll(runs);
    state.onManyWrites = () => {
      throw new TypeError("ours");
    };
    const another = start();
    executor.seen.set(another.runId, endedWith(0));
    await expect(reconcileAll([another])).rejects.toThrow("ours");
  });
});

describe("a look at many runs", () => {
  test("writes all that has changed at once, and nothing when nothing has", async () => {
    const { start, store, executor, reconcileAll, state } = world();
    const runs = [start(), start(), start()];
    const written: string[] = [];
    state.onWrite = (runId) => void written.push(runId);
    const quiet = await reconcileAll(runs);
    expect(quiet).toEqual({ runs, failures: [], unsure: new Set() });
    for (const { runId } of runs.slice(1)) executor.seen.set(runId, endedWith(0));
    const { runs: found, failures } = await reconcileAll(runs);
    expect(failures).toEqual([]);
    expect(found.map(({ status }) => status)).toEqual(["running", "completed", "completed"]);
    expect(found).toEqual(runs.map(({ runId }) => store.get(runId)));
    expect(written).toEqual(runs.slice(1).map(({ runId }) => runId));
  });
});

describe("an interrupted launch", () => {
  const HANDLE = { pid: 9, startTime: "9", bootId: "b" };

  test("stays as it is while this agent or another one is in the middle of it", async () => {
    const { launch, executor, reconcile, reconcileAll, state } = world();
    executor.onRecover = async () => expect.fail("it was recovered");
    const [own, foreign] = [launch({ launcher: SELF }), launch()];
    state.launching = true;
    expect(await reconcile(own)).toEqual(own);
    expect((await reconcileAll([own])).runs).toEqual([own]);
    state.launching = false;
    state.alive = true;
    expect(await reconcile(foreign)).toEqual(foreign);
    expect((await reconcileAll([foreign])).failures).toEqual([]);
    expect(executor.looks).toEqual([]);
  });

  test("is no failure and stays as it is while what its wrapper left cannot be read", async () => {
    const { launch, executor, reconcile, reconcileAll } = world();
    executor.onRecover = async () => "unreadable";
    const run = launch();
    expect(await reconcile(run)).toEqual(run);
    expect(await reconcileAll([run])).toEqual({ runs: [run], failures: [], unsure: new Set() });
    expect(executor.looks).toEqual([]);
  });

  test("that this agent has just started is not looked at: what was started may still be refused", async () => {
    const { start, executor, reconcile, reconcileAll, state } = world();
    const run = start();
    executor.seen.set(run.runId, endedWith(0));
    state.launching = true;
    expect(await reconcile(run)).toEqual(run);
    expect(await reconcileAll([run]), "and soon again").toEqual({
      runs: [run],
      failures: [],
      unsure: new Set([run.runId]),
    });
    expect(executor.looks.filter(({ handle }) => handle.runId === run.runId)).toEqual([]);
  });

  test("of this agent, or of one that is gone, has failed when its command never started, and frees its token", async () => {
    const { launch, reconcile, store, state } = world();
    for (const [launcher, isAlive] of [
      [SELF, true],
      [{ ...SELF, startTime: "9" }, false],
      [{ ...SELF, pid: 11 }, false],
    ] as const) {
      state.alive = isAlive;
      const run = launch({ launcher });
      expect(await reconcile(run)).toMatchObject({
        status: "failed",
        statusReason: INTERRUPTED,
        endedAt: NOW,
        launchToken: undefined,
      });
      expect(store.findByToken(run.launchToken!)).toBeUndefined();
    }
    state.alive = true;
    for (const launcher of [
      { ...SELF, startTime: "9" },
      { ...SELF, pid: 11 },
    ]) {
      expect(await reconcile(launch({ launcher })), "of another agent").toMatchObject({
        status: "launching",
      });
    }
  });

  test("whose process was found runs on with it and with its log, and keeps its token", async () => {
    const { launch, executor, reconcile, store } = world();
    const run = launch();
    writeFileSync(run.logPath, "");
    executor.onRecover = async (runId) => ({ runId, launchedIn: "b", process: HANDLE });
    const adopted = await reconcile(run);
    expect(adopted).toMatchObject({
      status: "running",
      statusReason: "The process is alive.",
      process: HANDLE,
      logFile: logIdentity(run.logPath),
      launchToken: run.launchToken,
    });
    expect(store.get(run.runId)).toEqual(adopted);
  });

  test("whose process was found and has ended gets its outcome in the same look", async () => {
    const { launch, executor, reconcile, reconcileAll } = world();
    executor.onRecover = async (runId) => ({ runId, launchedIn: "b", process: undefined });
    const [one, another] = [launch(), launch()];
    for (const { runId } of [one, another]) executor.seen.set(runId, endedWith(3));
    expect(await reconcile(one)).toMatchObject({ status: "failed", exitCode: 3 });
    expect((await reconcileAll([another])).runs).toMatchObject([{ status: "failed", exitCode: 3 }]);
  });

  test("that another agent has recovered meanwhile is as that agent recorded it", async () => {
    const { launch, executor, reconcile, store } = world();
    const run = launch();
    executor.onRecover = async (runId) => {
      store.change(run, { status: "running", process: { ...HANDLE, pid: 8 } });
      return { runId, launchedIn: "b", process: HANDLE };
    };
    expect(await reconcile(run)).toMatchObject({ status: "running", process: { pid: 8 } });
  });

  test("that cannot be recovered now is one failure of a look at many, and costs no other its look", async () => {
    const { launch, start, executor, reconcileAll } = world();
    const [run, other] = [launch(), start()];
    executor.seen.set(other.runId, endedWith(0));
    const fault = new Error("no descriptors");
    executor.onRecover = async () => Promise.reject(fault);
    const { runs, failures } = await reconcileAll([run, other]);
    expect(failures).toEqual([fault]);
    expect(runs.map(({ status }) => status)).toEqual(["launching", "completed"]);
  });
});
