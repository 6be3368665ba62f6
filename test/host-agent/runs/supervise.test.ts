import { appendFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { expect, test } from "vitest";

import { logEndMark } from "../../../host-agent/logs/log-limit.ts";
import { localExecutor } from "../../../host-agent/executor/local.ts";
import { identify, isAlive } from "../../../host-agent/executor/process-identity.ts";
import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { hostClock, type Moment } from "../../../host-agent/system/clock.ts";
import { openRunStore, type RunStore } from "../../../host-agent/store/run-store.ts";
import { createRetention } from "../../../host-agent/runs/retention.ts";
import { createReconcile } from "../../../host-agent/runs/reconcile.ts";
import { createStops } from "../../../host-agent/runs/stop.ts";
import { createSupervision } from "../../../host-agent/runs/supervise.ts";
import { type Hub, startHub } from "../../support/hub.ts";

const LIMIT = 4_096;
const HOUR_MS = 3_600_000;
const TIMED = {
  recipe_id: "timed",
  title: "Timed",
  description: "",
  command: ["sleep", "60"],
  timeout_seconds: 3_600,
};

test("a failure for one run stops neither the limits of other runs nor the pruning of old ones", async () => {
  await using hub = await startHub({ recipes: [TIMED], env: { HUB_MAX_LOG_BYTES: String(LIMIT) } });
  const launchTimed = async (): Promise<RunRecord> =>
    (await hub.post("/api/v1/pipelines/runs", { recipe_id: "timed" })).json;
  const [first, second] = [await launchTimed(), await launchTimed()];
  const [stuck, old, left] = await Promise.all(
    ["true", "true", "echo done"].map(async (text) => hub.ended(await hub.runScript(text))),
  );
  const pruned: string[] = [];
  let failure: unknown;
  let pruneFailure: unknown;
  let signalled: unknown;

  await hub.restart(async () => {
    setEnd(hub, stuck!, 1);
    setEnd(hub, old!, 2);
    // A child that the run has left behind writes on.
    await appendFile(left!.log_path, "x".repeat(3 * LIMIT));
    using opened = open(hub, { of: first.run_id, message: "disk full for the first" });
    const { store } = opened;
    const executor = localExecutor({ stateDir: hub.stateDir, env: {}, runUser: undefined });
    const signalLock = { hold: <T>(work: () => T) => work(), close() {} };
    const now = inTwoHours;
    const self = identify(process.pid)!;
    const deps = { store, executor, signalLock, now, clock: hostClock(now), self };
    const reconciling = createReconcile({
      ...deps,
      isAgentAlive: isAlive,
      isLaunching: () => false,
      markers: async () => () => [],
    });
    const supervise = createSupervision(deps, reconciling, createStops(deps));
    failure = await supervise().catch((error: unknown) => error);
    const forgetDue = createRetention({
      ...deps,
      executor: {
        ...executor,
        async forget(runId) {
          if (runId === stuck!.run_id) throw new Error("the file system fails");
          return executor.forget(runId);
        },
      },
      keepRunsDays: 1,
      onPruned: ({ runId }) => pruned.push(runId),
    });
    pruneFailure = await forgetDue().catch((error: unknown) => error);
    signalled = [first, second].map(({ run_id }) => store.get(run_id)!.stop?.sent);
  });

  expect(String(failure)).toBe("Error: disk full for the first");
  expect(String(pruneFailure)).toBe("Error: the file system fails");
  expect(signalled).toEqual([undefined, true]);
  expect(pruned).toEqual([old!.run_id]);
  expect((await stat(left!.log_path)).size).toBe(LIMIT + logEndMark(LIMIT).length);
  expect(await hub.ended(second)).toMatchObject({ signal: "SIGTERM" });
});

test("a run that ignores the SIGTERM of its time limit gets SIGKILL after the grace period, and its record reports both", async () => {
  const stubborn = { ...TIMED, command: ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"] };
  await using hub = await startHub({ recipes: [{ ...stubborn, timeout_seconds: 1 }] });
  const { json: run } = await hub.post("/api/v1/pipelines/runs", { recipe_id: "timed" });
  expect(await hub.ended(run)).toMatchObject({
    status: "failed",
    signal: "SIGKILL",
    exit_code: 137,
    status_reason: expect.stringMatching(
      /^It ran longer than its recipe's 1 seconds and was sent SIGTERM, then SIGKILL/,
    ),
  });
});

/** When the run ended, in epoch milliseconds; while no agent has the store open. */
function setEnd(hub: Hub, { run_id }: RunRecord, at: number): void {
  using db = new DatabaseSync(join(hub.stateDir, "runs.db"));
  db.prepare("UPDATE runs SET ended_at = ? WHERE run_id = ?").run(at, run_id);
}

/** A run for which something cannot be done. */
interface Fault {
  of: string;
  message: string;
}

/** The store of a Hub that is stopped, which fails for one run. */
function open(hub: Hub, { of, message }: Fault): { store: RunStore } & Disposable {
  const real = openRunStore(join(hub.stateDir, "runs.db"));
  const store: RunStore = {
    ...real,
    change(known, changes) {
      if (known.runId === of) throw new Error(message);
      return real.change(known, changes);
    },
  };
  return { store, [Symbol.dispose]: () => real.close() };
}

/** The rounds of a Hub that is stopped, on a host whose wall clock differs from the true time by this much. */
async function superviseWithClock(hub: Hub, aheadMs: number, keepRunsDays: number): Promise<string[]> {
  const store = openRunStore(join(hub.stateDir, "runs.db"));
  const executor = localExecutor({ stateDir: hub.stateDir, env: {}, runUser: undefined });
  const pruned: string[] = [];
  const trueTime = hostClock();
  const clock = (): Moment => ({ ...trueTime(), at: trueTime().at + aheadMs });
  const now = () => clock().at;
  const signalLock = { hold: <T>(work: () => T) => work(), close() {} };
  const deps = { store, executor, signalLock, now, clock, self: identify(process.pid)! };
  const reconciling = createReconcile({
    ...deps,
    isAgentAlive: isAlive,
    isLaunching: () => false,
    markers: async () => () => [],
  });
  await createSupervision(deps, reconciling, createStops(deps))();
  // Everything is too much for a cap of one byte.
  const limits = { keepRunsDays, maxLogsBytes: 1 };
  await createRetention({ ...deps, ...limits, onPruned: ({ runId }) => pruned.push(runId) })();
  store.close();
  return pruned;
}

function inTwoHours(): number {
  return Date.now() + 2 * HOUR_MS;
}

test("a wall clock that is set ahead ends no run for its time limit, and deletes no run and no log", async () => {
  await using hub = await startHub({ recipes: [TIMED] });
  const { json: live } = await hub.post("/api/v1/pipelines/runs", { recipe_id: "timed" });
  const done = await hub.ended(await hub.runScript("echo kept"));
  let pruned: string[] = [];
  await hub.restart(async () => {
    pruned = await superviseWithClock(hub, 60 * 24 * HOUR_MS, 30);
  });
  expect(pruned).toEqual([]);
  expect(await hub.run(live)).toMatchObject({ status: "running", ended_at: null });
  expect(await hub.log(done)).toBe("kept\n");
});

test("a wall clock that was set ahead deletes no run of before, also when runs were started by it since", async () => {
  await using hub = await startHub();
  const [done, later] = [await hub.runScript("echo kept"), await hub.runScript("echo later")];
  await Promise.all([hub.ended(done), hub.ended(later)]);
  const ahead = 60 * 24 * HOUR_MS;
  let pruned: string[] = [];
  await hub.restart(async () => {
    using db = new DatabaseSync(join(hub.stateDir, "runs.db"));
    db.prepare("UPDATE runs SET started_at = started_at + ?, ended_at = ended_at + ? WHERE run_id = ?").run(
      ahead,
      ahead,
      later.run_id,
    );
    pruned = await superviseWithClock(hub, ahead, 30);
  });
  expect(pruned).toEqual([]);
  expect(await hub.log(done)).toBe("kept\n");
});

test("a grace period ends when its time is over, also after the wall clock was set back", async () => {
  await using hub = await startHub();
  const run = await hub.runScript("trap '' TERM; while :; do sleep 0.1; done");
  await hub.kill(run, { grace_seconds: 1 });
  await hub.restart(async () => {
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    await superviseWithClock(hub, -24 * HOUR_MS, 30);
  });
  expect(await hub.ended(run)).toMatchObject({ status: "killed", signal: "SIGKILL" });
});
