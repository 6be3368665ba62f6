import { writeFileSync } from "node:fs";

import { describe, expect, test } from "vitest";

import { StartUnknown } from "../../../host-agent/executor/executor.ts";
import { ApiProblem } from "../../../host-agent/protocol/problem.ts";
import { newRun } from "../../support/runs.ts";
import { endedWith } from "./scripted-executor.ts";

import { NOW, HOUR_MS, SELF, PROCESS, world, ofRecipe } from "./launch-world.ts";

describe("a launch", () => {
  test("is recorded with all that it was ordered with, and then runs", async () => {
    const { launch, store, path } = world();
    const { run, replayed } = await launch({ label: "l" });
    expect(replayed).toBe(false);
    expect(run.run_id).toMatch(/^run_[0-9a-f]{12}$/);
    expect(store.get(run.run_id)).toMatchObject({
      status: "running",
      statusReason: "The process is alive.",
      process: PROCESS,
      logFile: "1:2",
      keyName: "acme",
      label: "l",
      startedAt: NOW,
      startedUptime: 500_000,
      fingerprint: "f",
      launchToken: "t",
      launcher: SELF,
      spec: { path, args: "" },
      specSha256: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
  });

  test("with the token of a run is its replay for an hour, and a new run after it", async () => {
    const { launch, state, starts } = world();
    const first = await launch();
    state.now += HOUR_MS;
    expect(await launch()).toEqual({ run: first.run, replayed: true });
    expect(starts()).toBe(1);
    state.now += 1;
    const second = await launch();
    expect(second.replayed).toBe(false);
    expect(second.run.run_id).not.toBe(first.run.run_id);
  });

  test("with the token of another request is refused, and names the run", async () => {
    const { launch, starts } = world();
    const { run } = await launch();
    await expect(launch({ fingerprint: "other" })).rejects.toMatchObject({
      code: "idempotency_key_reused",
      message: `The Idempotency-Key was used within the last hour for another request, which started ${run.run_id}; use a new key`,
    });
    expect(starts()).toBe(1);
  });

  test("is the replay of a known run without a turn: also once the agent takes no more launches", async () => {
    const { launch, launches } = world();
    const { run } = await launch();
    launches.stopWaiting();
    expect(await launch()).toEqual({ run, replayed: true });
    await expect(launch({ launch_token: "u" })).rejects.toMatchObject({ code: "host_unavailable" });
  });

  test("that had to wait behind the request that it repeats is its replay, whatever became of the recipe meanwhile", async () => {
    const { launch, state, removeRecipes, starts } = world({ atOnce: 1 });
    state.onStart = async () => removeRecipes();
    const order = ofRecipe("");
    const [first, second] = await Promise.all([launch(order), launch(order)]);
    expect(second).toEqual({ run: first.run, replayed: true });
    expect(starts()).toBe(1);
    await expect(launch({ ...order, launch_token: "u" })).rejects.toMatchObject({ code: "recipe_not_found" });
  });

  test("that would have to wait takes as many characters of the queue as its order has", async () => {
    const { launch } = world({ atOnce: 1, waitingText: 40 });
    const [, fits, long] = await Promise.allSettled([
      launch(),
      launch({ ...ofRecipe("x".repeat(12)), launch_token: "u" }),
      launch({ ...ofRecipe("x".repeat(13)), launch_token: "v" }),
    ]);
    expect(fits.status).toBe("fulfilled");
    expect(long).toMatchObject({ reason: { message: expect.stringContaining("Too many launches wait") } });
  });

  test("is the replay of one that is being started here, and waits for it", async () => {
    const { launch, launches, state, starts } = world();
    const start = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    state.onStart = async () => {
      begun.resolve();
      await start.promise;
    };
    const first = launch();
    await begun.promise;
    const second = launch();
    start.resolve();
    const [{ run }, answer] = await Promise.all([first, second]);
    expect(answer).toEqual({ run, replayed: true });
    expect(launches.isUnderWay(run.run_id)).toBe(false);
    expect(starts()).toBe(1);
  });

  test("is the replay of one that another agent is starting, and waits for that agent", async () => {
    const { launch, store, state, starts } = world();
    state.isForeignAlive = true;
    const { run: other } = store.insertOrFind(
      newRun({ launcher: { ...SELF, pid: 11 }, launchToken: "foreign", startedAt: NOW }),
      () => true,
      () => {},
    );
    setTimeout(() => {
      store.markRunning(other.runId, { process: PROCESS, logFile: undefined, reason: "r" });
    }, 120);
    const answer = await launch({ launch_token: "foreign" });
    expect(answer).toMatchObject({ replayed: true, run: { run_id: other.runId, status: "running" } });
    expect(starts()).toBe(0);
  });

  test("is the replay of one in the same turn of the event loop", async () => {
    const { launch, starts } = world();
    const [first, second] = await Promise.all([launch(), launch()]);
    expect([first, second]).toEqual([
      { run: first.run, replayed: false },
      { run: first.run, replayed: true },
    ]);
    expect(starts()).toBe(1);
  });

  test("with the token of one that another agent fails to start starts a run itself", async () => {
    const { launch, store, state, starts } = world();
    state.isForeignAlive = true;
    const { run: other } = store.insertOrFind(
      newRun({ launcher: { ...SELF, pid: 11 }, launchToken: "foreign", fingerprint: "f", startedAt: NOW }),
      () => true,
      () => {},
    );
    setTimeout(() => void store.failLaunch(other.runId, { reason: "r", endedAt: NOW }), 20);
    const answer = await launch({ launch_token: "foreign" });
    expect(answer).toMatchObject({ replayed: false, run: { status: "running" } });
    expect(answer.run.run_id).not.toBe(other.runId);
    expect(starts()).toBe(1);
  });

  test("has an id of twelve hexadecimal digits, and a separate log from others of the same second", async () => {
    const { launch } = world({ maxRunning: 64 });
    const answers = await Promise.all(
      Array.from({ length: 64 }, (_, index) => launch({ launch_token: String(index) })),
    );
    // A byte below 16 has a zero before it: among this number there is one.
    for (const { run } of answers) expect(run.run_id).toMatch(/^run_[0-9a-f]{12}$/);
    const digits = new Set(answers.map(({ run }) => run.run_id.slice(4)).join(""));
    expect(digits.size).toBe(16);
    const logs = new Set(answers.map(({ run }) => run.log_path));
    expect(logs.size).toBe(64);
    const plain = [...logs].filter((path) => /\/job__\d{8}_\d{6}\.log$/.test(path));
    expect(plain, "only the first has no suffix").toHaveLength(1);
  });

  test("that is refused for a limit costs no other one of the same turn", async () => {
    const { launch, starts } = world({ maxRunning: 1 });
    const [first, second] = await Promise.allSettled([
      launch(ofRecipe("")),
      launch({ ...ofRecipe(""), launch_token: "u" }),
    ]);
    expect(first).toMatchObject({ status: "fulfilled", value: { replayed: false } });
    expect(second).toMatchObject({ status: "rejected", reason: { code: "too_many_runs" } });
    expect(starts()).toBe(1);
  });

  test("that cannot be recorded fails with all of the same turn: nothing of them is recorded or started", async () => {
    const { launch, state, store, starts } = world();
    const fault = new Error("the disk is full");
    let inserts = 0;
    state.onInsert = () => {
      if (++inserts === 2) throw fault;
    };
    const outcomes = await Promise.allSettled([
      launch(ofRecipe("")),
      launch({ ...ofRecipe(""), launch_token: "u" }),
    ]);
    expect(outcomes).toEqual([
      { status: "rejected", reason: fault },
      { status: "rejected", reason: fault },
    ]);
    expect(store.countAlive()).toBe(0);
    expect(starts()).toBe(0);
  });

  test("of a recipe is not looked at as a script is after its start", async () => {
    const { launch, state, calls } = world();
    state.scriptFault = new Error("no script was started");
    const { run } = await launch({ source: "pipeline", spec: { recipe_id: "r", args: "" } });
    expect(run).toMatchObject({ source: "pipeline", status: "running", spec_sha256: null });
    expect(calls).toEqual([`start ${run.run_id}`]);
  });

  test("that failed frees its token: the next one with it starts another run", async () => {
    const { launch, state, store } = world();
    state.onStart = async () => {
      throw new ApiProblem("launch_failed", "no such program");
    };
    await expect(launch()).rejects.toMatchObject({ code: "launch_failed" });
    const [failed] = store.list({ source: "script", limit: 1 }).runs;
    expect(failed).toMatchObject({
      status: "failed",
      statusReason: "no such program.",
      endedAt: NOW,
      launchToken: undefined,
    });
    state.onStart = async () => {};
    expect(await launch()).toMatchObject({ replayed: false });
  });

  test("concurrent with its own failure starts another run instead of a replay of the failed one", async () => {
    const { launch, state, starts } = world();
    const begun = Promise.withResolvers<void>();
    state.onStart = async () => {
      state.onStart = async () => {};
      begun.resolve();
      await new Promise(setImmediate);
      throw new StartUnknown("the spawner was killed");
    };
    const first = launch();
    await begun.promise;
    const retry = launch().catch((error: ApiProblem) => error.code);
    await expect(first).rejects.toMatchObject({ code: "host_unavailable" });
    expect(await retry).toBe("host_unavailable");
    expect(await launch()).toMatchObject({ replayed: false });
    expect(starts()).toBe(2);
  });

  test("whose start nobody knows about goes on if its process is found", async () => {
    const { launch, state, executor, store } = world();
    state.onStart = async () => {
      throw new StartUnknown("the spawner was killed");
    };
    executor.onRecover = async (runId) => ({ runId, launchedIn: "b", process: PROCESS });
    const { run, replayed } = await launch();
    expect({ status: run.status, replayed }).toEqual({ status: "running", replayed: false });
    expect(store.get(run.run_id)).toMatchObject({ process: PROCESS, launchToken: "t" });
  });

  test("whose start nobody knows about, and of which nothing started, answers so and frees its token", async () => {
    const { launch, state, launches, store } = world();
    state.onStart = async () => {
      throw new StartUnknown("the spawner was killed");
    };
    await expect(launch()).rejects.toMatchObject({
      code: "host_unavailable",
      message: "The host could not start it now; nothing was started",
      extras: { retryAfterSeconds: 1, cause: expect.any(StartUnknown) },
    });
    const [failed] = store.list({ source: "script", limit: 1 }).runs;
    expect(failed).toMatchObject({ status: "failed", launchToken: undefined });
    expect(launches.isUnderWay(failed!.runId)).toBe(false);
  });

  test("of which neither the start nor its outcome can be found out may have been started, and keeps its token", async () => {
    const { launch, state, executor, store } = world();
    const cause = new Error("no descriptors");
    state.onStart = async () => {
      throw new StartUnknown("the spawner was killed");
    };
    executor.onRecover = () => Promise.reject(cause);
    const failure = (await launch().catch((error: unknown) => error)) as ApiProblem;
    const [run] = store.list({ source: "script", limit: 1 }).runs;
    expect(failure).toMatchObject({
      code: "host_unavailable",
      message: `${run!.runId} may have been started; the host cannot tell now. Look at this run before you launch it again. A retry with the same Idempotency-Key is safe`,
      extras: { retryAfterSeconds: 2, cause },
    });
    expect(run).toMatchObject({ status: "launching", launchToken: "t" });
  });

  test("that was started and could not be recorded is looked at again, and not taken for one that failed", async () => {
    const { launch, state, executor, store } = world();
    const cause = new Error("the disk is full");
    state.onMarkRunning = () => {
      state.onMarkRunning = () => {};
      throw cause;
    };
    executor.onRecover = async (runId) => ({ runId, launchedIn: "b", process: PROCESS });
    const { run } = await launch();
    expect(run).toMatchObject({ status: "running", pid: "7" });
    expect(store.get(run.run_id)).toMatchObject({ process: PROCESS, launchToken: "t" });

    state.onMarkRunning = () => {
      throw cause;
    };
    executor.onRecover = async () => "never_started";
    await expect(launch({ launch_token: "u" })).rejects.toMatchObject({
      extras: { cause: { message: "the start could not be recorded", cause } },
    });
  });

  test("that fails by an error of ours is neither failed nor retried: it is looked at as after a crash", async () => {
    const { launch, state, store, launches } = world();
    state.onStart = async () => {
      throw new TypeError("a fault of ours");
    };
    await expect(launch()).rejects.toMatchObject({
      code: "host_unavailable",
      message: expect.stringContaining("may have been started"),
    });
    const [run] = store.list({ source: "script", limit: 1 }).runs;
    expect(run).toMatchObject({ status: "launching", launchToken: "t" });
    expect(launches.isUnderWay(run!.runId)).toBe(false);
  });

  test("of a script that was changed during the start is stopped, and answers so", async () => {
    const { launch, state, path, calls, store } = world();
    state.onStart = async () => writeFileSync(path, "#!/bin/sh\nchanged\n");
    const message = "The script was changed while it was being started; it was stopped";
    await expect(launch()).rejects.toMatchObject({ code: "launch_failed", message });
    const [run] = store.list({ source: "script", limit: 1 }).runs;
    expect(calls).toEqual([`start ${run!.runId}`, `kill ${run!.runId} 7`]);
    expect(run).toMatchObject({ status: "failed", statusReason: `${message}.`, launchToken: undefined });
  });

  test("of a script of which nobody can tell whether it was changed is stopped, and can be tried again", async () => {
    const { launch, state, calls, store } = world();
    state.scriptFault = new Error("no descriptors");
    const message =
      "The host cannot check now whether the script was changed while it was being started; it was stopped";
    await expect(launch()).rejects.toMatchObject({
      code: "host_unavailable",
      message,
      extras: { retryAfterSeconds: 10, cause: state.scriptFault },
    });
    const [run] = store.list({ source: "script", limit: 1 }).runs;
    expect(calls).toEqual([`start ${run!.runId}`, `kill ${run!.runId} 7`]);
    expect(run).toMatchObject({ status: "failed", statusReason: `${message}.`, launchToken: undefined });
  });

  test("at the limit looks which runs have ended, and is refused only if none has", async () => {
    const { launch, executor, starts } = world({ maxRunning: 1 });
    const { run } = await launch();
    await expect(launch({ launch_token: "u" })).rejects.toMatchObject({
      code: "too_many_runs",
      message: "The host is at its limit of 1 concurrent runs; try again later",
      extras: { retryAfterSeconds: 10 },
    });
    executor.seen.set(run.run_id, endedWith(0));
    const { look } = executor;
    executor.look = async (looks) => {
      // Longer than the launch would take without a look.
      for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
      return look(looks);
    };
    expect(await launch({ launch_token: "u" })).toMatchObject({ replayed: false });
    expect(starts()).toBe(2);
  });

  test("below the limit looks at no run", async () => {
    const { launch, executor } = world();
    await launch();
    await launch({ launch_token: "u" });
    expect(executor.looks).toEqual([]);
  });

  test("that a kill waits for is over when its start is, whatever came of it", async () => {
    const { launch, launches, state, store } = world();
    const over: unknown[] = [];
    state.onStart = async () => {
      // It is under way as soon as the turn that recorded it is over.
      await new Promise(setImmediate);
      const [run] = store.list({ source: "script", limit: 1 }).runs;
      expect(launches.isUnderWay(run!.runId)).toBe(true);
      over.push(launches.over(run!.runId));
      throw new ApiProblem("launch_failed", "x");
    };
    await expect(launch()).rejects.toThrow("x");
    await expect(over[0]).resolves.toBeUndefined();
    const [run] = store.list({ source: "script", limit: 1 }).runs;
    expect(launches.over(run!.runId)).toBeUndefined();
  });
});
