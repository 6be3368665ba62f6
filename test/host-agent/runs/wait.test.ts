import { appendFileSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { logIdentity } from "../../../host-agent/logs/log-limit.ts";
import { createFind } from "../../../host-agent/runs/find.ts";
import { holdRequests } from "../../../host-agent/runs/held.ts";
import { createReconcile } from "../../../host-agent/runs/reconcile.ts";
import { createWaits } from "../../../host-agent/runs/wait.ts";
import { openRunStore } from "../../../host-agent/store/run-store.ts";
import { newRun } from "../../support/runs.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { endedWith, scriptedExecutor } from "./scripted-executor.ts";

const FOLLOWERS = 40;
const WAIT_SECONDS = 3;

/** A live run with an empty log, and the requests that may wait for it. */
function world({ bootId = "b" } = {}) {
  const dir = tempDir();
  const store = openRunStore(":memory:");
  onTestFinished(() => store.close());
  const executor = scriptedExecutor(dir);
  const logPath = join(dir, "a.log");
  writeFileSync(logPath, "");
  const launch = newRun({ logPath, launcher: { pid: 1, startTime: "1", bootId: "b" } });
  const { run } = store.insertOrFind(
    launch,
    () => true,
    () => {},
  );
  const process = { pid: 7, startTime: "7", bootId: "b" };
  store.markRunning(run.runId, { process, logFile: logIdentity(logPath), reason: "The process is alive." });
  mkdirSync(join(dir, "runs", run.runId), { recursive: true });
  const { reconcile } = createReconcile({
    store,
    executor,
    signalLock: { hold: (work) => work(), close() {} },
    now: () => Date.now(),
    self: launch.launcher,
    isAgentAlive: () => true,
    isLaunching: () => false,
    markers: async () => () => [],
  });
  const requests = holdRequests();
  const find = createFind(store, reconcile);
  let shared = 0;
  const waits = createWaits({
    store,
    executor,
    find,
    // A request itself looks by `find`: this is the look for all of them.
    async reconcile(known) {
      shared++;
      return reconcile(known);
    },
    isLaunching: () => false,
    requests,
    bootId,
  });
  const follow = (waitSeconds = WAIT_SECONDS) =>
    waits.readLog("script", run.runId, { after: 0, maxBytes: 100, waitSeconds });
  return { executor, logPath, run, waits, follow, requests, sharedLooks: () => shared };
}

test("however many requests wait for a quiet run, it is looked at twice a second and not once for each of them", async () => {
  const { executor, follow, sharedLooks } = world();
  const began = performance.now();
  const pages = await Promise.all(Array.from({ length: FOLLOWERS }, () => follow()));
  // On a busy machine the waits take longer, and there are more looks.
  const halfSeconds = Math.ceil((performance.now() - began) / 500);
  expect(pages.every(({ bytes }) => bytes.length === 0)).toBe(true);
  expect(sharedLooks()).toBeGreaterThan(0);
  expect(sharedLooks()).toBeLessThanOrEqual(halfSeconds);
  // Each request looks when it comes and when its time is over, which a timer may report a millisecond too early.
  expect(executor.looks.length - sharedLooks()).toBeLessThanOrEqual(3 * FOLLOWERS);
});

test.for([
  ["b", { code: "log_gone" }],
  ["next boot", { bytes: Buffer.from("of another") }],
] as const)(
  "a file in the place of a log is not shown, until the host is restarted and may have been restored: %s",
  async ([bootId, expected]) => {
    const { logPath, follow } = world({ bootId });
    renameSync(logPath, `${logPath}.1`);
    writeFileSync(logPath, "of another");
    expect(await follow(0).catch((error: unknown) => error)).toMatchObject(expected);
  },
);

test("every request that waits for a log is answered when it grows", async () => {
  const { logPath, follow } = world();
  const pages = Array.from({ length: FOLLOWERS }, () => follow(60));
  await new Promise((resolve) => setTimeout(resolve, 50));
  appendFileSync(logPath, "news\n");
  for (const { bytes } of await Promise.all(pages)) expect(Buffer.from(bytes).toString()).toBe("news\n");
});

test("every request that waits is answered when the run ends without any file that reports it", async () => {
  const { executor, run, waits, follow } = world();
  const pages = Array.from({ length: FOLLOWERS }, () => follow(60));
  const record = waits.get("script", run.runId, { waitSeconds: 60 });
  await new Promise((resolve) => setTimeout(resolve, 50));
  executor.seen.set(run.runId, endedWith(undefined));
  expect(await record).toMatchObject({ ended_at: expect.any(Number) });
  expect(await Promise.all(pages)).toHaveLength(FOLLOWERS);
});

test("a stop of the agent answers every request that waits", async () => {
  const { follow, requests } = world();
  const pages = Array.from({ length: FOLLOWERS }, () => follow(60));
  await new Promise((resolve) => setTimeout(resolve, 50));
  requests.stopWaiting();
  expect(await Promise.all(pages)).toHaveLength(FOLLOWERS);
});
