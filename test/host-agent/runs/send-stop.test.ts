import { expect, onTestFinished, test } from "vitest";

import type { StopEvent } from "../../../host-agent/runs/next-stop.ts";
import { createStops } from "../../../host-agent/runs/stop.ts";
import type { Run, Stop } from "../../../host-agent/store/run.ts";
import { openRunStore } from "../../../host-agent/store/run-store.ts";
import { newRun } from "../../support/runs.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { scriptedExecutor } from "./scripted-executor.ts";

const NOW = { at: 1_000_000, uptime: 5_000 };
const KILL = { type: "kill", signal: "SIGTERM", keyName: "acme", deadline: undefined } as const;
const round = (exceeded?: "timeout" | "log_limit"): StopEvent => ({ type: "round", now: NOW, exceeded });
const STOP: Stop = {
  cause: "kill",
  signal: "SIGTERM",
  keyName: "acme",
  sent: false,
  deadline: undefined,
  escalated: false,
};

/** A run in a real store, and an executor that answers each signal as the test says. */
function world() {
  const store = openRunStore(":memory:");
  onTestFinished(() => store.close());
  const signals: string[] = [];
  const state = { answer: "sent" as "sent" | "refused" | "gone", isHeld: false, onHold() {}, onSignal() {} };
  const executor = scriptedExecutor(tempDir(), {
    async signal({ runId }, signal) {
      expect(state.isHeld, "only one agent sends at a time").toBe(true);
      signals.push(`${signal} ${runId === run.runId}`);
      state.onSignal();
      return state.answer;
    },
  });
  const carryOut = createStops({
    store,
    executor,
    signalLock: {
      async hold(work) {
        state.isHeld = true;
        state.onHold();
        try {
          return await work();
        } finally {
          state.isHeld = false;
        }
      },
      close() {},
    },
  });
  const { runId } = store.insertOrFind(
    newRun(),
    () => true,
    () => {},
  ).run;
  const process = { pid: 7, startTime: "7", bootId: "b" };
  const run: Run = store.markRunning(runId, { process, logFile: undefined, reason: "r" });
  const now = () => store.get(runId)!;
  return { store, carryOut, run, now, signals, state };
}

test("a kill is sent once, recorded as sent, and makes the run killed while its processes end", async () => {
  const { carryOut, run, now, signals } = world();
  const { run: killed, decision } = await carryOut(run, KILL);
  expect(decision).toEqual({ do: "record", stop: STOP });
  expect(killed).toEqual({
    ...run,
    status: "killed",
    statusReason: "/kill by acme sent SIGTERM; not all of its processes have ended yet.",
    stop: { ...STOP, sent: true },
  });
  expect(now()).toEqual(killed);
  expect(await carryOut(killed, KILL)).toEqual({ run: killed, decision: { do: "nothing" } });
  expect(signals).toEqual(["SIGTERM true"]);
});

test("a kill that reaches a process of another user says that this one goes on", async () => {
  const { carryOut, run, state } = world();
  state.answer = "refused";
  expect((await carryOut(run, KILL)).run).toMatchObject({
    status: "killed",
    stop: { sent: true },
    statusReason:
      "/kill by acme sent SIGTERM; at least one of its processes belongs to another user, whom the host-agent may not signal, and goes on.",
  });
});

test("a signal that reached nothing is not recorded as sent: the run's end tells what became of it", async () => {
  const { carryOut, run, now, state } = world();
  state.answer = "gone";
  expect((await carryOut(run, KILL)).run).toEqual({ ...run, stop: STOP });
  expect(now()).toEqual({ ...run, stop: STOP });
});

test.for([
  ["timeout", "Over its time limit: the host-agent sent SIGTERM; not all of its processes have ended yet."],
  [
    "log_limit",
    "Over the limit of its log: the host-agent sent SIGTERM; not all of its processes have ended yet.",
  ],
] as const)("the limit %s is named, and does not make the run killed", async ([cause, statusReason]) => {
  const { carryOut, run, signals } = world();
  expect((await carryOut(run, round(cause))).run).toMatchObject({
    status: "running",
    statusReason,
    stop: { cause, sent: true },
  });
  expect(signals).toEqual(["SIGTERM true"]);
});

test("a stop that was recorded by an agent that died is sent by the next round", async () => {
  const { store, carryOut, run, signals } = world();
  const ordered = store.change(run, { stop: { ...STOP, signal: "SIGINT" } })!;
  expect(await carryOut(ordered, round())).toMatchObject({
    run: { status: "killed" },
    decision: { do: "send" },
  });
  expect(signals).toEqual(["SIGINT true"]);
});

test("a signal that another agent has sent while this one waited for the lock is not sent again, except for SIGKILL", async () => {
  for (const [signal, sent] of [
    ["SIGTERM", []],
    ["SIGKILL", ["SIGKILL true"]],
  ] as const) {
    const { store, carryOut, run, now, signals, state } = world();
    state.onHold = () => void store.change(now(), { stop: { ...now().stop!, sent: true } });
    await carryOut(run, { ...KILL, signal });
    expect(signals).toEqual(sent);
  }
});

test("a run that has ended, or lost its stop, while an agent waited for the lock gets no signal", async () => {
  for (const change of [{ status: "completed", endedAt: NOW.at } as const, { stop: undefined }]) {
    const { store, carryOut, run, now, signals, state } = world();
    state.onHold = () => void store.change(now(), change);
    expect((await carryOut(run, KILL)).run).toEqual(now());
    expect(signals).toEqual([]);
  }
});

test("a grace period that is ordered while the signal is sent is kept, and a run that ends then stays ended", async () => {
  const { store, carryOut, run, now, state } = world();
  state.onSignal = () => void store.change(now(), { stop: { ...now().stop!, deadline: NOW } });
  expect((await carryOut(run, KILL)).run).toMatchObject({
    status: "killed",
    stop: { ...STOP, sent: true, deadline: NOW },
  });

  const other = world();
  const ended = { status: "completed", statusReason: "done", endedAt: NOW.at } as const;
  other.state.onSignal = () => void other.store.change(other.now(), ended);
  expect((await other.carryOut(other.run, KILL)).run).toMatchObject(ended);
  expect(other.now()).toMatchObject(ended);
});

test("a kill of a run that has changed since it was read is decided again, by the run as it is", async () => {
  const { store, carryOut, run, now, signals } = world();
  store.change(run, { stop: { ...STOP, signal: "SIGINT", keyName: "first", sent: true }, status: "killed" });
  expect(await carryOut(run, KILL)).toEqual({ run: now(), decision: { do: "nothing" } });
  store.change(now(), { status: "failed", endedAt: NOW.at });
  expect((await carryOut(run, KILL)).decision).toEqual({ do: "refuse", why: "ended" });
  store.removeAll([run.runId]);
  expect(await carryOut(run, KILL)).toEqual({ run, decision: { do: "nothing" } });
  expect(signals).toEqual([]);
});

test("the end of a grace period is recorded before SIGKILL, which the caller sends", async () => {
  const { store, carryOut, run, now, signals } = world();
  const waiting = store.change(run, { stop: { ...STOP, sent: true, deadline: NOW } })!;
  const { run: forced, decision } = await carryOut(waiting, round());
  expect(decision).toMatchObject({ do: "force" });
  expect(forced).toMatchObject({ stop: { escalated: true, sent: true } });
  expect(now()).toEqual(forced);
  expect(signals).toEqual([]);
});
