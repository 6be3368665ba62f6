import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { identify } from "../../../host-agent/executor/process-identity.ts";
import { readStarted, runFolder } from "../../../host-agent/executor/run-folder.ts";
import { openRunStore } from "../../../host-agent/store/run-store.ts";
import { ALIVE, createSettle } from "../../../host-agent/runs/reconcile.ts";

const self = identify(process.pid)!;

/** A store with one run that is being launched, and a settle that a test can look at it with. */
function startLaunch() {
  const stateDir = mkdtempSync(join(tmpdir(), "settle-"));
  const store = openRunStore(":memory:");
  onTestFinished(() => {
    store.close();
    rmSync(stateDir, { recursive: true });
  });
  let duringMarkers: (() => void) | undefined;
  const { settle, settleAll } = createSettle({
    store,
    stateDir,
    now: Date.now,
    self,
    isLaunching: () => false,
    async markers() {
      duringMarkers?.();
      return () => [];
    },
  });
  function launch(id: string, logName: string) {
    const { run } = store.insertOrFind(
      {
        run_id: id,
        source: "script",
        spec: "{}",
        cmd: "true",
        log_path: join(stateDir, logName),
        key_name: "k",
        spec_sha256: null,
        started_at: Date.now(),
        fingerprint: "f",
        timeout_seconds: null,
        log_limit: null,
        label: null,
        callback_url: undefined,
        launch_token: id,
        launcher: self,
      },
      0,
      () => {},
    );
    const folder = runFolder(stateDir, run.run_id);
    mkdirSync(folder.path, { recursive: true });
    writeFileSync(folder.exit, " ".repeat(8));
    return { run, folder };
  }
  const { run, folder } = launch("run_000000000001", "log");
  return {
    store,
    settle,
    settleAll,
    launch,
    run,
    folder,
    onMarkers: (work: () => void) => (duringMarkers = work),
  };
}

test("a launch that was over before somebody came to look at it is not taken for one that broke off", async () => {
  const { store, settle, run, folder } = startLaunch();
  store.markRunning(run.run_id, self, null, ALIVE);
  expect(await settle(run)).toMatchObject({ status: "running", launch_token: run.launch_token });
  expect(readStarted(folder), "its wrapper may still claim it").toBeUndefined();
});

test("a kill that was sent after somebody had read the run counts, also in the middle of the look at it", async () => {
  for (const moment of ["before", "within"]) {
    const { store, settle, run, folder, onMarkers } = startLaunch();
    const read = store.markRunning(run.run_id, { ...self, startTime: "1" }, null, ALIVE);
    writeFileSync(folder.started, "1\n");
    writeFileSync(folder.exit, "143\n");
    const kill = () =>
      void store.update(run.run_id, {
        stop_cause: "kill",
        stop_signal: "SIGINT",
        stop_key_name: "k",
        stop_sent: 1,
      });
    if (moment === "before") kill();
    else onMarkers(kill);
    // oxlint-disable-next-line no-await-in-loop -- one store at a time
    expect(await settle(read), moment).toMatchObject({ status: "killed", exit_code: 143 });
  }
});

test("a run that cannot be looked at keeps no other from being settled", async () => {
  const { store, settleAll, launch, folder } = startLaunch();
  const broken = launch("run_000000000002", "x".repeat(300));
  const last = launch("run_000000000003", "log");
  for (const { exit } of [folder, broken.folder, last.folder]) writeFileSync(exit, "  3\n");
  const gone = { ...self, startTime: "1" };
  for (const { run_id } of store.alive()) store.markRunning(run_id, gone, null, ALIVE);
  const { runs, failures } = await settleAll(store.alive());
  expect(runs.map(({ status }) => status)).toEqual(["failed", "running", "failed"]);
  expect(failures).toEqual([expect.objectContaining({ code: "ENAMETOOLONG" })]);
  expect(store.alive().map(({ run_id }) => run_id)).toEqual([broken.run.run_id]);
});
