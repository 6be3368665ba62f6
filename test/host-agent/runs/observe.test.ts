import { appendFileSync, chmodSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { describe, expect, onTestFinished, test, vi } from "vitest";

import { logIdentity } from "../../../host-agent/logs/log-limit.ts";
import { createReconcile } from "../../../host-agent/runs/reconcile.ts";
import type { NewRun, Run, Stop } from "../../../host-agent/store/run.ts";
import { openRunStore, type RunStore } from "../../../host-agent/store/run-store.ts";
import { newRun } from "../../support/runs.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { unprivileged } from "../../support/unprivileged.ts";
import { endedWith, scriptedExecutor } from "./scripted-executor.ts";

const STARTED_AT = 1_000;
const NOW = 9_000;
const SELF = { pid: 10, startTime: "10", bootId: "b" };
const ORPHANED =
  "Processes of the run are alive, but the wrapper that would keep its exit code was killed on the host.";
const INTERRUPTED = "Launch interrupted: the host-agent stopped before the command was started.";
const NEVER_STARTED =
  "The command was never started: its wrapper ended before, killed on the host or without room on the disk.";
const STOP: Stop = {
  cause: "kill",
  signal: "SIGTERM",
  keyName: "acme",
  sent: true,
  deadline: undefined,
  escalated: false,
};

/** What SQLite throws when a database can grow no more. */
function fullDisk(): unknown {
  using db = new DatabaseSync(":memory:");
  db.exec("PRAGMA max_page_count = 2; CREATE TABLE t (x)");
  try {
    db.exec("INSERT INTO t VALUES (zeroblob(100000))");
  } catch (error) {
    return error;
  }
  return expect.fail("there was space");
}

/** Runs in a real store, of which the executor sees what the test says. */
function world() {
  const dir = tempDir();
  const store = openRunStore(":memory:");
  onTestFinished(() => store.close());
  const executor = scriptedExecutor(dir);
  let held = 0;
  const state = {
    alive: false,
    launching: false,
    markers: [/\bERROR\b/],
    onMarkers() {},
    onHold() {},
    reads: 0,
    onWrite(_runId: string) {},
    onManyWrites() {},
  };
  const observedStore: RunStore = {
    ...store,
    get(runId) {
      state.reads++;
      return store.get(runId);
    },
    change(run, changes) {
      state.onWrite(run.runId);
      return store.change(run, changes);
    },
    inOneWrite(work) {
      state.onManyWrites();
      return store.inOneWrite(work);
    },
  };
  const reconciling = createReconcile({
    store: observedStore,
    executor,
    signalLock: {
      async hold(work) {
        held++;
        state.onHold();
        // As one that another agent holds for a moment.
        await new Promise(setImmediate);
        return work();
      },
      close() {},
    },
    now: () => NOW,
    self: SELF,
    isAgentAlive: () => state.alive,
    isLaunching: () => state.launching,
    async markers() {
      state.onMarkers();
      return () => state.markers;
    },
  });
  function launch(given: Partial<NewRun> = {}): Run {
    const logPath = join(dir, `${String(store.countAlive())}.log`);
    return store.insertOrFind(
      newRun({ startedAt: STARTED_AT, logPath, ...given }),
      () => true,
      () => {},
    ).run;
  }
  return {
    ...reconciling,
    store,
    executor,
    state,
    launch,
    /** A run that runs, with a log that has this text. */
    start(given: Partial<NewRun> = {}, log = "hello\n"): Run {
      const run = launch(given);
      writeFileSync(run.logPath, log);
      const process = { pid: 7, startTime: "7", bootId: "b" };
      return store.markRunning(run.runId, { process, logFile: logIdentity(run.logPath), reason: "r" });
    },
    locks: () => held,
  };
}

describe("a run that has ended", () => {
  test("gets its outcome, and the time at which its exit code was written, but never before its start", async () => {
    const { start, executor, reconcile, store } = world();
    for (const [at, endedAt] of [
      [5_000, 5_000],
      [NOW + 1, NOW],
      [STARTED_AT - 1, STARTED_AT],
      [0, STARTED_AT],
    ] as const) {
      const run = start();
      executor.seen.set(run.runId, endedWith(0, { at }));
      expect(await reconcile(run)).toMatchObject({ status: "completed", exitCode: 0, endedAt });
      expect(store.get(run.runId)).toMatchObject({ status: "completed", endedAt });
    }
    const lost = start();
    executor.seen.set(lost.runId, endedWith(undefined));
    expect(await reconcile(lost), "nobody knows when").toMatchObject({ status: "unknown", endedAt: NOW });
  });

  test("is judged by the last 8 KiB of its log, by its markers", async () => {
    const { start, executor, reconcile } = world();
    // The first line of what is read is dropped: most often its beginning is missing.
    const line = "\nERROR: no\n";
    const failed = start({}, `x${line}${"y".repeat(8_192 - line.length)}`);
    const early = start({}, `x${line}${"y".repeat(8_193 - line.length)}`);
    for (const run of [failed, early]) executor.seen.set(run.runId, endedWith(0));
    expect(await reconcile(failed)).toMatchObject({ status: "failed" });
    expect(await reconcile(early)).toMatchObject({ status: "completed" });
  });

  test("with a log over its limit is cut, and completed without a look at what was not kept", async () => {
    const { start, executor, reconcile } = world();
    const run = start({ logLimit: 100 }, "");
    appendFileSync(run.logPath, `${"x".repeat(200)}\nERROR\n`);
    executor.seen.set(run.runId, endedWith(0));
    expect(await reconcile(run)).toMatchObject({
      status: "completed",
      statusReason: expect.stringContaining("Its log is over the limit"),
    });
    expect(readFileSync(run.logPath, "utf8")).toMatch(/^x{100}\n\[The log ends here/);
  });

  test("with a log of which the file is not known is not cut", async () => {
    const { store, launch, executor, reconcile } = world();
    const run = launch({ logLimit: 1 });
    writeFileSync(run.logPath, "another's file");
    store.markRunning(run.runId, {
      process: { pid: 7, startTime: "7", bootId: "b" },
      logFile: undefined,
      reason: "r",
    });
    executor.seen.set(run.runId, endedWith(0));
    expect(await reconcile(store.get(run.runId)!)).toMatchObject({ status: "completed" });
    expect(statSync(run.logPath).size).toBe(14);
  });

  test("before its command started has failed, unless its stop explains that", async () => {
    const { start, store, executor, reconcile } = world();
    const [run, killed] = [start(), start()];
    store.change(killed, { stop: STOP });
    for (const { runId } of [run, killed]) {
      executor.seen.set(runId, endedWith(undefined, { commandStarted: false }));
    }
    expect(await reconcile(run)).toMatchObject({ status: "failed", statusReason: NEVER_STARTED });
    expect(await reconcile(killed)).toMatchObject({ status: "killed", signal: "SIGTERM" });
  });

  test.for<[string, Stop, number | undefined, string]>([
    ["whose signal was sent is killed, whatever its exit code", STOP, 0, "killed"],
    ["whose signal was not sent has its exit code's outcome", { ...STOP, sent: false }, 1, "failed"],
    [
      "whose signal was not sent, without an exit code, is unknown",
      { ...STOP, sent: false },
      undefined,
      "unknown",
    ],
    [
      "whose signal was not recorded as sent and had its effect is killed",
      { ...STOP, sent: false },
      143,
      "killed",
    ],
    ["with the effect of another signal has failed", { ...STOP, sent: false }, 130, "failed"],
  ])("with a stop %s", async ([, stop, exitCode, status]) => {
    const { start, store, executor, reconcile } = world();
    const run = store.change(start(), { stop })!;
    executor.seen.set(run.runId, endedWith(exitCode));
    expect(await reconcile(run)).toMatchObject({ status, exitCode });
  });

  test.for<[Stop["cause"], string]>([
    ["timeout", "3 seconds"],
    ["log_limit", "400 bytes"],
  ])("by the limit %s reports it, with the run's own number", async ([cause, text]) => {
    const { start, store, executor, reconcile } = world();
    const run = store.change(start({ timeoutSeconds: 3, logLimit: 400 }), { stop: { ...STOP, cause } })!;
    executor.seen.set(run.runId, endedWith(143));
    const { status, statusReason } = await reconcile(run);
    expect([status, statusReason]).toEqual(["failed", expect.stringContaining(text)]);
  });

  test("is never looked at again, and stays as it is", async () => {
    const { start, executor, reconcile, reconcileAll, store, state } = world();
    const known = start();
    executor.seen.set(known.runId, endedWith(0));
    const ended = await reconcile(known);
    executor.seen.set(known.runId, endedWith(1));
    const { length } = executor.looks;
    state.reads = 0;
    expect(await reconcile(ended)).toEqual(ended);
    expect((await reconcileAll([ended])).runs).toEqual([ended]);
    expect(state.reads, "nor read").toBe(0);
    expect(await reconcile(known), "by who read it before").toEqual(ended);
    expect((await reconcileAll([known])).runs).toEqual([ended]);
    expect(executor.looks).toHaveLength(length);
    expect(store.get(known.runId)).toEqual(ended);
  });
});

describe("the cgroup of a run", () => {
  test("is removed once the end of the run is recorded, and kills what is left in it only if the run was launched so", async () => {
    for (const many of [true, false]) {
      const { start, executor, reconcile, reconcileAll, state } = world();
      const released: unknown[] = [];
      executor.release = async (...release) => {
        released.push(release);
        throw new Error("a sweep does it later");
      };
      const see = (run: Run) => (many ? reconcileAll([run]) : reconcile(run));
      const ended = start({ cgroup: "/ended" });
      const killed = start({ cgroup: "/killed", killLeftBehind: true });
      const orphaned = start({ cgroup: "/orphaned" });
      const bare = start();
      executor.seen.set(orphaned.runId, { state: "orphaned" });
      for (const { runId } of [ended, killed, bare]) executor.seen.set(runId, endedWith(0));
      for (const run of [orphaned, bare, ended, killed]) await see(run);
      expect(released, String(many)).toEqual([
        ["/ended", { kill: false }],
        ["/killed", { kill: true }],
      ]);

      const unwritten = start({ cgroup: "/unwritten" });
      executor.seen.set(unwritten.runId, endedWith(0));
      const full = fullDisk();
      state.onWrite = () => {
        throw full;
      };
      await see(unwritten);
      expect(released, "its end is not recorded").toHaveLength(2);
    }
  });
});

describe("a run that is alive", () => {
  test("without its wrapper reports it, once, and stays killed if it was killed", async () => {
    const { start, store, executor, reconcile } = world();
    const [run, killed] = [start(), store.change(start(), { status: "killed", stop: STOP })!];
    for (const { runId } of [run, killed]) executor.seen.set(runId, { state: "orphaned" });
    const orphaned = await reconcile(run);
    expect(orphaned).toMatchObject({ status: "running", statusReason: ORPHANED, endedAt: undefined });
    expect(await reconcile(orphaned)).toEqual(orphaned);
    expect(await reconcile(killed)).toEqual(killed);
  });

  test("with processes left after its exit code is as it was", async () => {
    const { start, executor, reconcile } = world();
    const run = start();
    executor.seen.set(run.runId, { state: "lingering" });
    expect(await reconcile(run)).toEqual(run);
  });

  test("that cannot be looked at is as it was, and the cause is thrown", async () => {
    const { start, store, executor, reconcile, reconcileAll } = world();
    const [run, other] = [start(), start()];
    const cause = new Error("no descriptors");
    executor.seen.set(run.runId, { state: "unavailable", cause });
    executor.seen.set(other.runId, endedWith(0));
    await expect(reconcile(run)).rejects.toBe(cause);
    const { runs, failures } = await reconcileAll([run, other]);
    expect(failures).toEqual([cause]);
    expect(runs.map(({ status }) => status)).toEqual(["running", "completed"]);
    expect(store.get(run.runId)).toEqual(run);
  });

  test("is looked at with its whole tree only once its signal was sent", async () => {
    const { start, store, executor, reconcile } = world();
    const plain = start();
    const ordered = store.change(start(), { stop: { ...STOP, sent: false } })!;
    const sent = store.change(start(), { stop: STOP })!;
    for (const run of [plain, ordered, sent]) await reconcile(run);
    expect(executor.looks.map(({ wholeTree }) => wholeTree)).toEqual([false, false, true]);
    expect(executor.looks[0]!.handle).toEqual({
      runId: plain.runId,
      process: plain.process,
      launchedIn: plain.launcher.bootId,
    });
  });

  test("whose signal is due is looked at again under the lock, once another agent has sent it meanwhile", async () => {
    for (const many of [true, false]) {
      const { start, store, executor, reconcile, reconcileAll, state, locks } = world();
      const run = store.change(start(), { stop: { ...STOP, sent: false } })!;
      executor.seen.set(run.runId, endedWith(0));
      state.onHold = () => {
        store.change(store.get(run.runId)!, { stop: STOP });
        executor.seen.set(run.runId, { state: "lingering" });
      };
      // oxlint-disable-next-line no-await-in-loop -- a store each
      const found = many ? (await reconcileAll([run])).runs[0]! : await reconcile(run);
      expect(found, String(many)).toMatchObject({
        status: "running",
        endedAt: undefined,
        stop: { sent: true },
      });
      expect(executor.looks.at(-1)).toMatchObject({ wholeTree: true });
      expect(locks()).toBe(1);
    }
  });

  test("whose signal is due and that another agent saw end under the lock stays as that agent recorded it", async () => {
    const { start, store, executor, reconcile, state } = world();
    const run = store.change(start(), { stop: { ...STOP, sent: false } })!;
    executor.seen.set(run.runId, endedWith(0));
    state.onHold = () => void store.change(store.get(run.runId)!, { status: "killed", endedAt: 7_000 });
    state.onWrite = () => expect.fail("it was written again");
    expect(await reconcile(run)).toMatchObject({ status: "killed", endedAt: 7_000 });
  });

  test("whose signal is due and was not sent meanwhile is not looked at again under the lock", async () => {
    const { start, store, executor, reconcile, state } = world();
    const run = store.change(start(), { stop: { ...STOP, sent: false } })!;
    executor.seen.set(run.runId, endedWith(0));
    let looks = 0;
    state.onHold = () => void (looks = executor.looks.length);
    expect(await reconcile(run)).toMatchObject({ status: "completed" });
    expect(executor.looks).toHaveLength(looks);
  });

  test("needs no lock when no signal is due", async () => {
    const { start, executor, reconcile, locks } = world();
    const run = start();
    executor.seen.set(run.runId, endedWith(0));
    await reconcile(run);
    expect(locks()).toBe(0);
  });

  test("that another agent has seen end while the markers were read stays as that agent recorded it", async () => {
    for (const many of [true, false]) {
      const { start, store, executor, reconcile, reconcileAll, state } = world();
      const run = start();
      executor.seen.set(run.runId, endedWith(1));
      state.onMarkers = () => {
        store.change(run, { status: "completed", endedAt: 7_000 });
        executor.seen.set(run.runId, { state: "unavailable", cause: new Error("no descriptors") });
      };
      // oxlint-disable-next-line no-await-in-loop -- a store each
      const found = many ? (await reconcileAll([run])).runs[0]! : await reconcile(run);
      expect(found, String(many)).toMatchObject({ status: "completed", endedAt: 7_000 });
    }
  });
});

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
