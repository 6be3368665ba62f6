import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, onTestFinished, test } from "vitest";

import { HELPER_PATH, obstacleToHelper } from "../../../host-agent/executor/helper.ts";
import { helperOrder } from "../../../host-agent/executor/order-file.ts";
import { identify, isAlive, readStat } from "../../../host-agent/executor/process-identity.ts";
import { createRunFolder, readExit, runFolder } from "../../../host-agent/executor/run-folder.ts";
import type { Wrapper } from "../../../host-agent/executor/start-run.ts";
import { openStarter } from "../../../host-agent/executor/starter.ts";
import { startHub, until } from "../../support/hub.ts";
import { needs } from "../../support/needs.ts";
import { childrenOf, spawnerOf } from "../../support/processes.ts";
import { serverProcess } from "../../support/server-process.ts";
import { tempDir } from "../../support/temp-dir.ts";

const RUNS = "/api/v1/scripts/runs";
let count = 0;

function makeStarter(path = HELPER_PATH) {
  let isLost = false;
  const starter = openStarter(path, () => (isLost = true));
  onTestFinished(starter.close);
  return { ...starter, isLost: () => isLost };
}

/** A wrapper to be started, with its folder and its log. */
function makeWrapper(argv: string[], changes: Partial<Wrapper> = {}) {
  const dir = tempDir();
  const runId = `run_${(++count).toString(16).padStart(12, "0")}`;
  const folder = runFolder(dir, runId);
  mkdirSync(join(dir, "runs"));
  createRunFolder(folder);
  const log = join(dir, "log");
  const wrapper: Wrapper = {
    runId,
    helper: HELPER_PATH,
    order: helperOrder({ runId, folder: folder.path, argv, logLimit: undefined, hasCgroup: false }),
    folder: folder.path,
    fds: { log: openSync(log, "a"), folder: openSync(folder.path, "r"), cgroup: undefined },
    cwd: dir,
    env: { PATH: "/usr/bin:/bin", HUB_RUN_ID: runId },
    runUser: undefined,
    ...changes,
  };
  const exitCode = () => until(() => readExit(folder)?.code);
  return { wrapper, folder, text: () => readFileSync(log, "utf8"), dir, exitCode };
}

/** The starter that the spawner of this process's agent has. */
const starterOf = (server: number) => until(() => childrenOf(spawnerOf(server))[0]);

describe("the starter of wrappers", needs(obstacleToHelper() === undefined, "no compiled wrapper"), () => {
  test("starts a wrapper as the leader of a session, in its folder, with its variables only, and reports its end", async () => {
    const starter = makeStarter();
    const run = makeWrapper(["/bin/sh", "-c", "pwd; env; until [ -e go ]; do sleep 0.05; done"]);
    const ended = Promise.withResolvers<void>();
    const process = await starter.start(run.wrapper, ended.resolve);
    const stat = readStat(process!.pid)!;
    expect(stat).toMatchObject({ session: stat.pid, pgrp: stat.pid, startTime: process!.startTime });
    writeFileSync(join(run.dir, "go"), "");
    await ended.promise;

    expect(run.text().split("\n")[0]).toBe(run.dir);
    expect(run.text()).toContain(`HUB_RUN_ID=${run.wrapper.runId}\n`);
    expect(run.text()).not.toContain("NODE");
  });

  test("passes on an order and variables that are larger than a pipe", async () => {
    const long = "x".repeat(100_000);
    const words = Array.from({ length: 10 }, () => long);
    const run = makeWrapper(["/bin/sh", "-c", 'echo "$#" "${#1}" "${#LONG}"', "sh", ...words], {
      env: { LONG: long },
    });
    await makeStarter().start(run.wrapper, () => {});
    expect(await run.exitCode()).toBe(0);
    expect(run.text()).toBe("10 100000 100000\n");
  });

  test("starts many at a time, each once, and tells their ends apart", async () => {
    const starter = makeStarter();
    const runs = Array.from({ length: 40 }, (_, i) => makeWrapper(["/bin/sh", "-c", `echo ${i}; exit ${i}`]));
    const ends = runs.map(() => Promise.withResolvers<void>());
    await Promise.all(runs.map(async ({ wrapper }, i) => starter.start(wrapper, ends[i]!.resolve)));
    await Promise.all(ends.map(async ({ promise }) => promise));
    expect(runs.map(({ text }) => text())).toEqual(runs.map((_, i) => `${i}\n`));
    expect(await Promise.all(runs.map(async ({ exitCode }) => exitCode()))).toEqual(runs.map((_, i) => i));
  });

  test("reports why a wrapper cannot be started, and starts the next one", async () => {
    const starter = makeStarter();
    const refused: [Partial<Wrapper>, string][] = [
      [{ cwd: "/does/not/exist" }, "ENOENT"],
      [{ helper: "/etc/passwd" }, "EACCES"],
      [{ env: { TOO_LONG: "x".repeat(200_000) } }, "E2BIG"],
      [{ env: { NUL: "a\0b" } }, "EINVAL"],
    ];
    for (const [changes, code] of refused) {
      const { wrapper, folder } = makeWrapper(["/bin/true"], changes);
      await expect(starter.start(wrapper, () => {})).rejects.toMatchObject({ code });
      expect(existsSync(folder.started)).toBe(false);
    }
    const run = makeWrapper(["/bin/true"]);
    await starter.start(run.wrapper, () => {});
    expect(await run.exitCode()).toBe(0);
  });

  test("starts nothing when it cannot open a descriptor of its parent, and reports that", async () => {
    const { wrapper, folder } = makeWrapper(["/bin/true"]);
    const fds = { ...wrapper.fds, log: 9_999 };
    expect(await makeStarter().start({ ...wrapper, fds }, () => {})).toBe(undefined);
    expect(existsSync(folder.started)).toBe(false);
  });

  test("that cannot be executed rejects the start, and is not usable", async () => {
    const starter = makeStarter("/does/not/exist");
    const { wrapper } = makeWrapper(["/bin/true"]);
    await expect(starter.start(wrapper, () => {})).rejects.toMatchObject({ code: "ENOENT" });
    expect(starter.isUsable()).toBe(false);
  });

  test("ends with its server, also while it is stopped, and its runs go on", async () => {
    const pids: number[] = [];
    const deploy = serverProcess({ stopSignal: "SIGKILL", onStart: (pid) => pids.push(pid) });
    await using hub = await startHub({ deploy });
    const path = await hub.script("job.sh", "sleep 60");
    const { json } = await hub.post(RUNS, { path });
    const starter = identify(await starterOf(pids[0]!))!;
    const wrapper = identify(Number(json.pid))!;
    process.kill(starter.pid, "SIGSTOP");
    await hub.restart(async () => {
      await until(() => !isAlive(starter) || undefined);
      expect(isAlive(wrapper)).toBe(true);
    });
  });

  test("that is killed is replaced: a launch that it was asked for starts once with its Idempotency-Key", async () => {
    await using hub = await startHub();
    const ledger = join(hub.dir, "ledger");
    const path = await hub.script("job.sh", `echo "$1" >> ${ledger}`);
    const launch = (key: string) =>
      hub.post(RUNS, { path, args: key }, { headers: { "idempotency-key": key } });
    await hub.ended((await launch("first")).json);
    const starter = await starterOf(process.pid);
    process.kill(starter, "SIGSTOP");
    const asked = launch("second");
    await until(async () => (await hub.get(RUNS)).json.runs.length === 2 || undefined);
    process.kill(starter, "SIGKILL");
    expect((await asked).status).toBe(503);

    const { status, json } = await launch("second");
    expect(status).toBe(201);
    await hub.ended(json);
    expect(readFileSync(ledger, "utf8")).toBe("first\nsecond\n");
  });
});
