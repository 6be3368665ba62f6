import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { describe, expect, onTestFinished, test } from "vitest";

import type { RunEnds } from "../../../host-agent/executor/executor.ts";
import { identify } from "../../../host-agent/executor/process-identity.ts";
import { createRuns, type RunsDeps } from "../../../host-agent/runs/runs.ts";
import { ALIVE } from "../../../host-agent/runs/end-of-run.ts";
import { openRunStore } from "../../../host-agent/store/run-store.ts";
import { newRun } from "../../support/runs.ts";
import { endedWith, scriptedExecutor } from "./scripted-executor.ts";

const self = identify(process.pid)!;
const MINUTE = 60;
/** The least looks of a round. */
const SHARE = 20;

/** Runs that are alive, under an executor that counts looks, and whose reports of ends the test makes itself. */
function startLive(count: number, timeoutSeconds?: number) {
  const stateDir = mkdtempSync(join(tmpdir(), "supervise-cost-"));
  const store = openRunStore(":memory:");
  onTestFinished(() => {
    store.close();
    rmSync(stateDir, { recursive: true });
  });
  const moment = { at: 1_000_000, uptime: 1_000_000 };
  const followed = new Set<string>();
  const everFollowed = new Set<string>();
  let report: ((runId: string) => void) | undefined;
  const ends: RunEnds = {
    onEnd: (listener) => void (report = listener),
    follow: (runId) => void (followed.add(runId), everFollowed.add(runId)),
    unfollow: (runId) => void followed.delete(runId),
    followed: () => followed.keys(),
  };
  const signals: string[] = [];
  const executor = scriptedExecutor(stateDir, {
    ends,
    async signal({ runId }, signal) {
      signals.push(`${signal} ${runId}`);
      return "sent";
    },
  });
  const runs = createRuns({
    store,
    executor,
    signalLock: { hold: async (work: () => Promise<unknown>) => work(), close() {} },
    recipes: { current: async () => ({ recipes: new Map(), error_markers: [] }) },
    scripts: { hasMarkersOff: () => false },
    logDir: stateDir,
    self,
    isAgentAlive: () => true,
    maxRunning: 10_000,
    checkCallbackUrl: () => {},
    now: () => moment.at,
    clock: () => moment,
  } as unknown as RunsDeps);
  const add = (i: number, more: object = {}): string => {
    const runId = `run_${String(i).padStart(12, "0")}`;
    const times = { startedAt: moment.at, startedUptime: moment.uptime };
    store.insertOrFind(
      newRun({
        runId,
        launchToken: runId,
        logPath: join(stateDir, runId),
        launcher: self,
        ...times,
        ...more,
      }),
      () => true,
      () => {},
    );
    store.markRunning(runId, { process: self, logFile: undefined, reason: ALIVE });
    return runId;
  };
  const ids = Array.from({ length: count }, (_, i) => add(i + 1, { timeoutSeconds }));
  return {
    store,
    executor,
    runs,
    ids,
    add,
    signals,
    followed,
    everFollowed,
    report: (runId: string) => report!(runId),
    pass(seconds: number) {
      moment.at += seconds * 1_000;
      moment.uptime += seconds * 1_000;
    },
    /** The ids of the runs that were looked at in a number of rounds, one for each look. */
    async rounds(number: number): Promise<string[]> {
      executor.looks.length = 0;
      // oxlint-disable-next-line no-await-in-loop -- one round after the other
      for (let i = 0; i < number; i++) await runs.supervise();
      return executor.looks.map(({ handle }) => handle.runId);
    },
  };
}

describe("a round of supervision", () => {
  test("looks at a fixed share of idle runs, and at each of them once a minute", async () => {
    const { rounds, ids } = startLive(900);
    await rounds(4);
    expect(await rounds(10)).toHaveLength(10 * SHARE);
    expect(new Set(await rounds(MINUTE))).toEqual(new Set(ids));
  });

  test("looks at a few hundred runs at most, however many are alive", async () => {
    const { rounds } = startLive(1_000);
    expect((await rounds(1)).length).toBeLessThanOrEqual(300);
  });

  test("looks at a run whose end was reported, and records it", async () => {
    const { rounds, ids, executor, store, report, followed } = startLive(400);
    await rounds(3);
    const last = ids.at(-1)!;
    expect(followed.has(last)).toBe(true);
    executor.seen.set(last, endedWith(0));
    report(last);
    expect(await rounds(1)).toContain(last);
    expect(store.get(last)).toMatchObject({ status: "completed" });
    expect(followed.has(last)).toBe(false);
  });

  test("begins to follow no run whose end was reported before", async () => {
    const { rounds, add, executor, store, report, everFollowed } = startLive(1);
    await rounds(1);
    const short = add(2);
    executor.seen.set(short, endedWith(0));
    report(short);
    expect(await rounds(1)).toContain(short);
    expect(store.get(short)).toMatchObject({ status: "completed" });
    expect([...everFollowed]).not.toContain(short);
  });

  test("finds an end whose report was lost within a minute", async () => {
    const { rounds, ids, executor, store } = startLive(400);
    await rounds(3);
    executor.seen.set(ids[77]!, endedWith(3));
    await rounds(MINUTE);
    expect(store.get(ids[77]!)).toMatchObject({ status: "failed", exitCode: 3 });
  });

  test("looks at a run again and again whose wrapper is gone while its processes are alive", async () => {
    const { rounds, ids, executor, store, report } = startLive(400);
    await rounds(3);
    executor.seen.set(ids[300]!, { state: "orphaned" });
    report(ids[300]!);
    await rounds(1);
    executor.seen.set(ids[300]!, endedWith(undefined));
    await rounds(1);
    expect(store.get(ids[300]!)).toMatchObject({ status: "unknown" });
  });

  test("finds runs that another agent has launched, and follows them", async () => {
    const { rounds, add, followed } = startLive(400);
    await rounds(3);
    const fresh = add(5_000);
    expect(await rounds(1)).toContain(fresh);
    expect(followed.has(fresh)).toBe(true);
  });

  test("stops every run that is over its time, and looks at none of the others for that", async () => {
    const { rounds, add, signals, pass } = startLive(400);
    const short = add(6_000, { timeoutSeconds: 5 });
    await rounds(3);
    pass(4);
    expect(await rounds(1)).toHaveLength(SHARE);
    expect(signals).toEqual([]);
    pass(2);
    expect((await rounds(1)).length).toBeLessThanOrEqual(SHARE + 1);
    expect(signals).toEqual([`SIGTERM ${short}`]);
  });

  test("does not forget a report when the round fails", async () => {
    const { rounds, ids, executor, store, report } = startLive(400);
    await rounds(3);
    const last = ids.at(-1)!;
    executor.seen.set(last, endedWith(0));
    report(last);
    const { look } = executor;
    executor.look = async () => Promise.reject(new Error("no descriptors"));
    await expect(rounds(1)).rejects.toThrow("no descriptors");
    executor.look = look;
    await rounds(1);
    expect(store.get(last)).toMatchObject({ status: "completed" });
  });
});

describe("a list of running runs", () => {
  const query = { source: "script", status: "running", limit: 10 } as const;

  test("looks at the runs on its page only", async () => {
    const { runs, executor } = startLive(100);
    const { runs: page } = await runs.list(query);
    expect(page).toHaveLength(10);
    expect(executor.looks).toHaveLength(10);
  });

  test("leaves out what has just ended, is filled up, and its cursor leads to every run that is left once", async () => {
    const { runs, executor, ids } = startLive(40);
    const ended = new Set(ids.filter((_, i) => i % 3 === 0));
    for (const id of ended) executor.seen.set(id, endedWith(0));
    const pages: string[][] = [];
    let cursor: string | null | undefined;
    do {
      // oxlint-disable-next-line no-await-in-loop -- one page after the other
      const page = await runs.list({ ...query, ...(cursor && { cursor }) });
      pages.push(page.runs.map(({ run_id }) => run_id));
      cursor = page.next_cursor;
    } while (cursor !== null);
    expect(pages[0]).toHaveLength(10);
    expect(pages.flat()).toEqual(ids.filter((id) => !ended.has(id)).toReversed());
  });

  test("with another status every live run is looked at first, so that what has just ended is on the page", async () => {
    const { runs, executor, ids } = startLive(120);
    executor.seen.set(ids[3]!, endedWith(0));
    const { runs: page } = await runs.list({ ...query, status: "completed" });
    expect(page.map(({ run_id }) => run_id)).toEqual([ids[3]]);
    expect(executor.looks).toHaveLength(120);
  });
});
