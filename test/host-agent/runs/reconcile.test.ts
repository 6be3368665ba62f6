import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { localExecutor } from "../../../host-agent/executor/local.ts";
import { identify, isAlive } from "../../../host-agent/executor/process-identity.ts";
import { readStarted, runFolder } from "../../../host-agent/executor/run-folder.ts";
import type { RunProcess } from "../../../host-agent/store/run.ts";
import { openRunStore } from "../../../host-agent/store/run-store.ts";
import { createReconcile } from "../../../host-agent/runs/reconcile.ts";
import { ALIVE } from "../../../host-agent/runs/end-of-run.ts";
import { newRun } from "../../support/runs.ts";

const self = identify(process.pid)!;

/** A store with one run that is being launched, and what a test can look at it with. */
function startLaunch() {
  const stateDir = mkdtempSync(join(tmpdir(), "reconcile-"));
  const store = openRunStore(":memory:");
  onTestFinished(() => {
    store.close();
    rmSync(stateDir, { recursive: true });
  });
  let duringMarkers: (() => void) | undefined;
  let duringRecovery: (() => Promise<void>) | undefined;
  const executor = localExecutor({ stateDir, env: {}, runUser: undefined });
  const { reconcile, reconcileAll } = createReconcile({
    store,
    executor: {
      ...executor,
      async recover(...run) {
        await duringRecovery?.();
        return executor.recover(...run);
      },
    },
    signalLock: { hold: (work) => work(), close() {} },
    now: Date.now,
    self,
    isAgentAlive: isAlive,
    isLaunching: () => false,
    async markers() {
      duringMarkers?.();
      return () => [];
    },
  });
  function launch(runId: string, logName: string) {
    const { run } = store.insertOrFind(
      newRun({ runId, logPath: join(stateDir, logName), launcher: self }),
      () => true,
      () => {},
    );
    const folder = runFolder(stateDir, run.runId);
    mkdirSync(folder.path, { recursive: true });
    writeFileSync(folder.exit, " ".repeat(8));
    return { run, folder };
  }
  const { run, folder } = launch("run_000000000001", "log");
  return {
    store,
    reconcile,
    reconcileAll,
    launch,
    run,
    folder,
    /** Records the run's process; one that is gone unless told otherwise. */
    start: (runId: string, process: RunProcess = { ...self, startTime: "1" }) =>
      store.markRunning(runId, { process, logFile: undefined, reason: ALIVE }),
    onMarkers: (work: () => void) => (duringMarkers = work),
    onRecovery: (work: () => Promise<void>) => (duringRecovery = work),
  };
}

test("a launch that finished before it is reconciled is not treated as interrupted", async () => {
  const { reconcile, start, run, folder } = startLaunch();
  start(run.runId, self);
  expect(await reconcile(run)).toMatchObject({ status: "running", launchToken: run.launchToken });
  expect(readStarted(folder), "its wrapper may still claim it").toBeUndefined();
});

test("a kill that was sent after the run was read counts, also during the reconcile", async () => {
  for (const moment of ["before", "within"]) {
    const { store, reconcile, start, run, folder, onMarkers } = startLaunch();
    const read = start(run.runId);
    writeFileSync(folder.started, "1\n");
    writeFileSync(folder.exit, "143\n");
    const kill = () =>
      void store.change(read, {
        stop: {
          cause: "kill",
          signal: "SIGINT",
          keyName: "k",
          sent: true,
          deadline: undefined,
          escalated: false,
        },
      });
    if (moment === "before") kill();
    else onMarkers(kill);
    // oxlint-disable-next-line no-await-in-loop -- one store at a time
    expect(await reconcile(read), moment).toMatchObject({ status: "killed", exitCode: 143 });
  }
});

test("a run that cannot be examined does not stop the reconcile of other runs", async () => {
  const { store, reconcileAll, start, launch, folder } = startLaunch();
  const broken = launch("run_000000000002", "x".repeat(300));
  const last = launch("run_000000000003", "log");
  for (const { exit } of [folder, broken.folder, last.folder]) writeFileSync(exit, "  3\n");
  for (const { runId } of store.alive()) start(runId);
  const { runs, failures } = await reconcileAll(store.alive());
  expect(runs.map(({ status }) => status)).toEqual(["failed", "running", "failed"]);
  expect(failures).toEqual([expect.objectContaining({ code: "ENAMETOOLONG" })]);
  expect(store.alive().map(({ runId }) => runId)).toEqual([broken.run.runId]);
});

test("a run whose end was reported during a look at many runs is never shown alive by that look", async () => {
  const { store, reconcile, reconcileAll, launch, start, run, folder, onRecovery } = startLaunch();
  // Alive when the look begins: this very process; over before the look ends.
  const alive = start(run.runId, self);
  launch("run_000000000002", "log");
  // It was launched by this agent, which launches nothing: it is recovered in the middle of the look.
  const orphan = store.get("run_000000000002")!;
  onRecovery(async () => {
    writeFileSync(folder.exit, "  0\n");
    expect(await reconcile(alive)).toMatchObject({ status: "completed" });
  });
  const { runs, failures } = await reconcileAll([alive, orphan]);
  expect(failures).toEqual([]);
  expect(runs.map(({ status }) => status)).toEqual(["completed", "failed"]);
});
