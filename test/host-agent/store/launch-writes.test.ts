import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { openRunStore, type RunStore } from "../../../host-agent/store/run-store.ts";
import type { Run, RunProcess } from "../../../host-agent/store/run.ts";
import { newRun } from "../../support/runs.ts";
import { tempDir } from "../../support/temp-dir.ts";

const PROCESS: RunProcess = { pid: 7, startTime: "7", bootId: "b" };
const URL_THERE = "https://client.example/";

/** The same database at two agents. */
function twoAgents(): [RunStore, RunStore] {
  const path = join(tempDir(), "runs.db");
  const stores: [RunStore, RunStore] = [openRunStore(path), openRunStore(path)];
  for (const store of stores) onTestFinished(() => store.close());
  return stores;
}

/** A token is in force while its run started at this time or later. */
const since = (time: number) => (holder: Run) => holder.startedAt >= time;
const callbacksOf = (store: RunStore) =>
  store.callbacks.due({ now: Number.MAX_SAFE_INTEGER, latest: Number.MAX_SAFE_INTEGER, limit: 10 });
const refuse = (): never => {
  throw new Error("at the limit");
};
const nobody = (): never => expect.fail("a known token asks for no admission");

test("a token starts one run: another launch with it finds that run, until it is too old", () => {
  const [one, two] = twoAgents();
  const { run, isNew } = one.insertOrFind(
    newRun({ launchToken: "t", startedAt: 5 }),
    () => true,
    () => {},
  );
  expect(isNew).toBe(true);
  expect(run).toMatchObject({ status: "launching", statusReason: "The command is being started." });
  expect(two.insertOrFind(newRun({ launchToken: "t" }), since(5), nobody)).toEqual({ run, isNew: false });

  const second = two.insertOrFind(newRun({ launchToken: "t", startedAt: 9 }), since(6), () => {});
  expect(second.isNew).toBe(true);
  expect(one.get(run.runId)?.launchToken).toBeUndefined();
  expect(one.findByToken("t")).toEqual(second.run);
});

test("a launch that is not admitted writes nothing, and leaves an old holder its token", () => {
  const [one, two] = twoAgents();
  const { run } = one.insertOrFind(
    newRun({ launchToken: "t", startedAt: 5 }),
    () => true,
    () => {},
  );
  expect(() =>
    two.insertOrFind(newRun({ launchToken: "t", callbackUrl: URL_THERE }), since(6), refuse),
  ).toThrow("at the limit");
  expect(one.findByToken("t")).toEqual(run);
  expect(one.countAlive()).toBe(1);
});

test("a launch that started nothing has failed, is free for another run, and calls nobody back", () => {
  const [one] = twoAgents();
  const { run } = one.insertOrFind(
    newRun({ startedAt: 5, callbackUrl: URL_THERE }),
    () => true,
    () => {},
  );
  expect(one.failLaunch(run.runId, { reason: "no such program.", endedAt: 8 })).toEqual({
    ...run,
    status: "failed",
    statusReason: "no such program.",
    endedAt: 8,
    launchToken: undefined,
  });
  expect(callbacksOf(one)).toEqual([]);
});

test("a run that has ended is neither failed nor running afterwards, and its callback stays due", () => {
  const [one, two] = twoAgents();
  const { run } = one.insertOrFind(
    newRun({ callbackUrl: URL_THERE }),
    () => true,
    () => {},
  );
  expect(callbacksOf(one), "not before its end").toEqual([]);
  const ended = two.change(run, { status: "completed", endedAt: 5, exitCode: 0 })!;
  expect(one.failLaunch(run.runId, { reason: "late", endedAt: 8 })).toEqual(ended);
  expect(one.markRunning(run.runId, { process: PROCESS, logFile: "1:2", reason: "late" })).toEqual(ended);
  expect(callbacksOf(one)).toMatchObject([{ run_id: run.runId, url: URL_THERE, attempts: 0 }]);
});

test("the process of a run is read back as it was recorded, also the parts that are unknown", () => {
  const [one, two] = twoAgents();
  for (const [process, logFile] of [
    [PROCESS, "1:2"],
    [{ pid: 8, startTime: undefined, bootId: undefined }, undefined],
  ] as const) {
    const { run } = one.insertOrFind(
      newRun(),
      () => true,
      () => {},
    );
    const running = { ...run, status: "running", statusReason: "r", process, logFile };
    expect(one.markRunning(run.runId, { process, logFile, reason: "r" })).toEqual(running);
    expect(two.get(run.runId)).toEqual(running);
  }
});

test("each change is read back as it was made, and cleared again", () => {
  const [one, two] = twoAgents();
  const { run } = one.insertOrFind(
    newRun(),
    () => true,
    () => {},
  );
  const stop = {
    cause: "timeout",
    signal: "SIGINT",
    keyName: undefined,
    sent: true,
    deadline: { at: 0, uptime: 0 },
    escalated: true,
  } as const;
  const changes = { exitCode: 0, signal: "SIGINT", process: PROCESS, stop, logFile: "1:2", launchToken: "x" };
  const changed = one.change(run, changes)!;
  expect(changed).toEqual({ ...run, ...changes });
  expect(two.get(run.runId)).toEqual(changed);
  const nothing = {
    exitCode: undefined,
    signal: undefined,
    process: undefined,
    stop: undefined,
    logFile: undefined,
    launchToken: undefined,
  };
  expect(two.change(changed, nothing)).toEqual({ ...run, ...nothing });
  expect(two.change(two.get(run.runId)!, { stop: { ...stop, sent: false, escalated: false } })).toMatchObject(
    {
      stop: { sent: false, escalated: false, keyName: undefined, deadline: { at: 0, uptime: 0 } },
    },
  );
});

test("all writes of one transaction are on the disk together, or none of them when it throws", () => {
  const [one, two] = twoAgents();
  const { run } = one.insertOrFind(
    newRun(),
    () => true,
    () => {},
  );
  const failing = () =>
    one.inOneWrite(() => {
      one.change(run, { statusReason: "one" });
      // A part of the whole, and not a transaction that is over before.
      one.insertOrFind(
        newRun(),
        () => true,
        () => {},
      );
      expect(two.countAlive()).toBe(1);
      throw new Error("in the middle");
    });
  expect(failing).toThrow("in the middle");
  expect(two.get(run.runId)).toEqual(run);
  expect(two.countAlive()).toBe(1);
  expect(one.inOneWrite(() => one.change(run, { statusReason: "two" }))).toMatchObject({
    statusReason: "two",
  });
  expect(two.get(run.runId)?.statusReason).toBe("two");
});

test("the head of the audit log only moves forward", () => {
  const [one, two] = twoAgents();
  expect(one.auditHead()).toBeUndefined();
  one.setAuditHead({ seq: 5, hash: "five" });
  two.setAuditHead({ seq: 4, hash: "four" });
  two.setAuditHead({ seq: 5, hash: "other" });
  expect(one.auditHead()).toEqual({ seq: 5, hash: "five" });
  two.setAuditHead({ seq: 6, hash: "six" });
  expect(one.auditHead()).toEqual({ seq: 6, hash: "six" });
});
