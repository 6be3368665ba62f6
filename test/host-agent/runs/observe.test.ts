import { appendFileSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";

import { describe, expect, test } from "vitest";

import type { Run, Stop } from "../../../host-agent/store/run.ts";
import { endedWith } from "./scripted-executor.ts";

import { STARTED_AT, NOW, ORPHANED, NEVER_STARTED, STOP, fullDisk, world } from "./observe-world.ts";

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

  test("is not judged by a file in the place of its log, unless the host was restarted and may have been restored", async () => {
    const { start, executor, reconcile } = world();
    const [run, restored] = [start(), start()];
    for (const { logPath } of [run, restored]) {
      renameSync(logPath, `${logPath}.1`);
      writeFileSync(logPath, "ERROR: of another\n");
    }
    executor.seen.set(run.runId, endedWith(0));
    executor.seen.set(restored.runId, endedWith(0, { rebooted: true }));
    expect(await reconcile(run)).toMatchObject({ status: "completed" });
    expect(await reconcile(restored)).toMatchObject({ status: "failed" });
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
