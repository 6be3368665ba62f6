import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { descendantsOf } from "../../../host-agent/executor/descendants.ts";
import { runEnds } from "../../../host-agent/executor/run-ends.ts";
import { createRunFolder, runFolder } from "../../../host-agent/executor/run-folder.ts";
import { openSpawner, type SpawnerEvents } from "../../../host-agent/executor/spawner.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { until } from "../../support/hub.ts";
import { spawnerOf } from "../../support/processes.ts";

const MINUTE_MS = 60_000;

/** The reports about runs of a state folder, with a spawner that is the parent of those that the test names. */
function startEnds() {
  const dir = tempDir();
  mkdirSync(join(dir, "runs"));
  const parentOf = new Set<string>();
  let events: SpawnerEvents | undefined;
  const ends = runEnds({
    spawner: { onEvents: (receiver) => void (events = receiver), isParentOf: (runId) => parentOf.has(runId) },
    folderOf: (runId) => runFolder(dir, runId),
  });
  onTestFinished(() => ends.close());
  const reports: string[] = [];
  ends.onEnd((runId) => reports.push(runId));
  const make = (runId: string) => {
    const folder = runFolder(dir, runId);
    createRunFolder(folder);
    return { end: () => writeFileSync(folder.exit, "  0\n", { flag: "r+" }) };
  };
  return { ends, reports, parentOf, make, events: events! };
}

test("the end of a run that this agent did not start is reported when its exit code is written", async () => {
  const { ends, reports, make } = startEnds();
  const [one, other] = [make("run_1"), make("run_2")];
  ends.follow("run_1");
  ends.follow("run_2");
  other.end();
  await until(() => reports.includes("run_2") || undefined);
  expect(reports).not.toContain("run_1");
  one.end();
  await until(() => reports.includes("run_1") || undefined);
});

test("a run that is not followed any more is not reported", async () => {
  const { ends, reports, make } = startEnds();
  const [one, other] = [make("run_1"), make("run_2")];
  for (const runId of ["run_1", "run_2"]) ends.follow(runId);
  ends.unfollow("run_1");
  expect([...ends.followed()]).toEqual(["run_2"]);
  one.end();
  other.end();
  await until(() => reports.includes("run_2") || undefined);
  expect(reports).not.toContain("run_1");
});

test("a run without a folder is followed once it has one", async () => {
  const { ends, reports, make } = startEnds();
  ends.follow("run_1");
  const run = make("run_1");
  ends.follow("run_1");
  run.end();
  expect(await until(() => reports.includes("run_1") || undefined)).toBe(true);
});

test("runs whose parent is lost are reported once, and are then noticed by their folders", async () => {
  const { ends, reports, parentOf, make, events } = startEnds();
  const run = make("run_1");
  parentOf.add("run_1");
  ends.follow("run_1");
  events.lost(["run_1", "run_never_followed"]);
  expect(reports).toEqual(["run_1"]);
  run.end();
  await until(() => reports.length > 1 || undefined);
  expect(new Set(reports)).toEqual(new Set(["run_1"]));
});

test(
  "the spawner reports the ends of the runs that it has started, and when it ends those that it leaves",
  { timeout: 2 * MINUTE_MS },
  async () => {
    const dir = tempDir();
    for (const name of ["runs", "logs"]) mkdirSync(join(dir, name));
    const spawner = openSpawner(MINUTE_MS);
    onTestFinished(() => spawner.close());
    const ended: string[] = [];
    const lost: string[] = [];
    spawner.onEvents({ ended: (runId) => ended.push(runId), lost: (runIds) => lost.push(...runIds) });
    const start = async (runId: string, argv: string[]) => {
      const command = { argv, cwd: "/", env: {}, terminal: false, script: undefined, logDir: dir };
      const folder = runFolder(dir, runId);
      const env = { PATH: process.env["PATH"]! };
      return spawner.startRun(command, {
        runId,
        folder,
        logPath: join(dir, "logs", runId),
        logLimit: undefined,
        env,
        runUser: undefined,
        cgroupProcs: undefined,
      });
    };
    const { process: sleeper } = await start("run_long", ["sleep", "600"]);
    onTestFinished(() => {
      for (const { pid } of descendantsOf(sleeper.pid) ?? []) process.kill(pid, "SIGKILL");
    });
    await start("run_short", ["true"]);
    await expect(start("run_none", ["no-such-program"])).rejects.toThrow("no-such-program");
    await until(() => ended.includes("run_short") || undefined);
    expect(["run_long", "run_short", "run_none"].map((runId) => spawner.isParentOf(runId))).toEqual([
      true,
      false,
      false,
    ]);
    process.kill(spawnerOf(process.pid), "SIGKILL");
    await until(() => lost.length > 0 || undefined);
    expect(lost).toEqual(["run_long"]);
    expect(ended).toEqual(["run_short"]);
  },
);
