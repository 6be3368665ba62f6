import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";

import { expect, onTestFinished, test } from "vitest";

import { identify, isAlive } from "../../../host-agent/executor/process-identity.ts";
import { commandLine, processesOf } from "../../../host-agent/executor/process-tree.ts";
import { openRunStore, type RunStore } from "../../../host-agent/store/run-store.ts";
import { localExecutor } from "../../../host-agent/executor/local.ts";
import type { StopEvent } from "../../../host-agent/runs/next-stop.ts";
import { createStops } from "../../../host-agent/runs/stop.ts";
import { hostClock } from "../../../host-agent/system/clock.ts";
import { openAdvisoryLock } from "../../../host-agent/store/advisory-lock.ts";
import { ALL, type Hub, startHub, until } from "../../support/hub.ts";
import { liveRun, newRun } from "../../support/runs.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { CAN_BE_NOBODY, NOBODY_UID, WHY_NOT_NOBODY } from "../../support/other-user.ts";
import { needs } from "../../support/needs.ts";

const STOP_AS = fileURLToPath(new URL("fixtures/stop-as.ts", import.meta.url));
const NOBODY = { uid: NOBODY_UID, gid: NOBODY_UID };

test(
  "a process of another user protects no other process of its run, and the record reports that it goes on",
  needs(CAN_BE_NOBODY, WHY_NOT_NOBODY),
  async () => {
    const asNobody = "setpriv --reuid=65534 --regid=65534 --clear-groups sleep";
    const script = `sleep 601 & ${asNobody} 602 & ${asNobody} 603 & wait`;
    const leader = spawn("/bin/sh", ["-c", script], { detached: true, stdio: "ignore" });
    onTestFinished(() => void process.kill(-leader.pid!, "SIGKILL"));
    const sleepers = await until(() => {
      const found = processesOf("run_000000000000", leader.pid)
        .filter(({ pid }) => commandLine(pid).startsWith("sleep\0"))
        .map(({ pid }) => identify(pid)!);
      return found.length === 3 ? found : undefined;
    });
    const run = liveRun({ runId: "run_000000000000", process: identify(leader.pid!)! });

    const stopped = spawnSync(process.execPath, [STOP_AS, JSON.stringify(run)], {
      ...NOBODY,
      encoding: "utf8",
    });

    expect(stopped.stderr).toBe("");
    expect(stopped.stdout).toBe(
      "/kill by acme sent SIGKILL; at least one of its processes belongs to another user, whom the host-agent may not signal, and goes on.\n",
    );
    const left = await until(() => {
      const alive = sleepers.filter(isAlive);
      return alive.length === 1 ? alive : undefined;
    });
    expect(commandLine(left[0]!.pid)).toBe("sleep\x00601\x00");
  },
);

test("a kill reaches the daemons that a run starts at the same moment", async () => {
  await using hub = await startHub();
  const path = await hub.script("daemons.sh", "for i in {1..40}; do setsid sleep 61 & done; wait");
  for (let round = 0; round < 8; round++) {
    const { json: run } = await hub.post("/api/v1/scripts/runs", { path });
    await until(() => processesOf(run.run_id).length > 2 + round || undefined);
    expect((await hub.kill(run)).status).toBe(200);
    expect(await hub.ended(run)).toMatchObject({ status: "killed" });
    expect(processesOf(run.run_id)).toEqual([]);
  }
});

test("a kill of a run that another agent is starting answers 503 and is not carried out later", async () => {
  await using hub = await startHub();
  const run = await hub.runScript("sleep 60");
  // As another agent on this state folder would have it, which is alive.
  using db = new DatabaseSync(join(hub.stateDir, "runs.db"));
  const change = db.prepare("UPDATE runs SET status = ?, launcher = ? WHERE run_id = ?");
  change.run("launching", JSON.stringify(identify(1)), run.run_id);

  const { status, json, headers } = await hub.kill(run);
  expect({ status, code: json.code, after: headers.get("retry-after") }).toEqual({
    status: 503,
    code: "host_unavailable",
    after: "1",
  });
  change.run("running", "{}", run.run_id);
  expect(db.prepare("SELECT stop_cause FROM runs").get()).toEqual({ stop_cause: null });
  expect(await hub.kill(run)).toMatchObject({ status: 200 });
});

/** Tells each signal, and goes on. */
const TELLS_SIGNALS = `trap 'echo term' TERM; trap 'echo int' INT; trap 'echo barrier' USR1; echo ready; while :; do sleep 0.02; done`;

test("a kill of a run that its time limit has sent SIGTERM sends its own signal", async () => {
  const recipe = { recipe_id: "timed", title: "Timed", description: "", timeout_seconds: 1 };
  await using hub = await startHub({ recipes: [{ ...recipe, command: ["/bin/bash", "-c", TELLS_SIGNALS] }] });
  const { json: run } = await hub.post("/api/v1/pipelines/runs", { recipe_id: "timed" });
  await until(async () => (await hub.log(run)).includes("\nterm\n") || undefined);

  expect(await hub.kill(run, { signal: "SIGINT" })).toMatchObject({
    status: 200,
    json: { status: "killed" },
  });
  await until(async () => (await hub.log(run)).includes("\nint\n") || undefined);
  expect((await hub.log(run)).match(/^(?:term|int)$/gm)).toEqual(["term", "int"]);
});

test.for<[string, StopEvent]>([
  ["a limit that was noticed", { type: "round", now: hostClock()(), exceeded: "timeout" }],
  ["a kill that was read", { type: "kill", signal: "SIGTERM", keyName: "late", deadline: undefined }],
])("%s before a kill, by another agent, changes nothing of that kill and sends nothing", async ([, late]) => {
  await using hub = await startHub();
  const run = await hub.runScript(TELLS_SIGNALS);
  await until(async () => (await hub.log(run)).includes("ready") || undefined);
  const other = openRunStore(join(hub.stateDir, "runs.db"));
  onTestFinished(() => other.close());
  const noticed = other.get(run.run_id)!;
  await hub.kill(run, { signal: "SIGINT" });
  await until(async () => (await hub.log(run)).includes("\nint\n") || undefined);

  await stopsOf(hub, other)(noticed, late);
  expect(other.get(run.run_id)).toMatchObject({
    stop: { cause: "kill", signal: "SIGINT", keyName: ALL.name },
    status: "killed",
  });
  // Whatever was sent before this has been handled by then.
  process.kill(
    processesOf(run.run_id).find(({ pid, ppid, pgrp }) => ppid === Number(run.pid) && pgrp === pid)!.pid,
    "SIGUSR1",
  );
  await until(async () => (await hub.log(run)).includes("\nbarrier\n") || undefined);
  expect((await hub.log(run)).match(/^(?:term|int)$/gm)).toEqual(["int"]);
});

test("a limit that two agents notice sends one signal", async () => {
  await using hub = await startHub();
  const run = await hub.runScript(TELLS_SIGNALS);
  await until(async () => (await hub.log(run)).includes("ready") || undefined);
  const store = openRunStore(join(hub.stateDir, "runs.db"));
  onTestFinished(() => store.close());
  const noticed = store.get(run.run_id)!;
  const carryOut = stopsOf(hub, store);
  const notice = () => carryOut(noticed, { type: "round", now: hostClock()(), exceeded: "timeout" });
  await notice();
  await until(async () => (await hub.log(run)).includes("\nterm\n") || undefined);

  await notice();
  process.kill(
    processesOf(run.run_id).find(({ pid, ppid, pgrp }) => ppid === Number(run.pid) && pgrp === pid)!.pid,
    "SIGUSR1",
  );
  await until(async () => (await hub.log(run)).includes("\nbarrier\n") || undefined);
  expect((await hub.log(run)).match(/^term$/gm)).toEqual(["term"]);
});

test("a stop is on the disk before its signal is sent, so that an agent that dies in between forgets no kill", async () => {
  const stateDir = tempDir();
  const path = join(stateDir, "runs.db");
  const [store, afterCrash] = [openRunStore(path), openRunStore(path)];
  for (const opened of [store, afterCrash]) onTestFinished(() => opened.close());
  const signalLock = openAdvisoryLock(join(stateDir, "signals.lock"));
  onTestFinished(() => signalLock.close());
  const { run } = store.insertOrFind(
    newRun(),
    () => true,
    () => {},
  );
  const running = store.change(run, { status: "running", process: identify(process.pid)! })!;
  const seen: unknown[] = [];
  const executor = localExecutor({ stateDir, env: {}, runUser: undefined });
  const carryOut = createStops({
    store,
    // The process is this one: it gets no signal.
    executor: { ...executor, signal: async () => (seen.push(afterCrash.get(run.runId)?.stop), "sent") },
    signalLock,
  });

  const stop = { cause: "kill", signal: "SIGTERM", keyName: "k", deadline: undefined, escalated: false };
  await carryOut(running, { type: "kill", signal: "SIGTERM", keyName: "k", deadline: undefined });
  expect(seen).toEqual([{ ...stop, sent: false }]);
  expect(afterCrash.get(run.runId)).toMatchObject({ stop: { ...stop, sent: true }, status: "killed" });
});

/** What another agent on the Hub's state folder would stop runs with. */
function stopsOf({ stateDir }: Hub, store: RunStore) {
  const executor = localExecutor({ stateDir, env: {}, runUser: undefined });
  const signalLock = openAdvisoryLock(join(stateDir, "signals.lock"));
  onTestFinished(() => signalLock.close());
  return createStops({ store, executor, signalLock });
}
