import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { describe, expect, test } from "vitest";

import { type Deploy, startHub, until } from "../support/hub.ts";
import { needs } from "../support/needs.ts";
import { CAN_BE_NOBODY, NOBODY_UID, WHY_NOT_NOBODY } from "../support/other-user.ts";
import { serverProcess } from "../support/server-process.ts";
import { tempDir } from "../support/temp-dir.ts";

const RUNS = "/api/v1/scripts/runs";
const LOOK_AS = join(import.meta.dirname, "..", "host-agent", "executor", "fixtures", "look-as.ts");

/** A server as `nobody`, to whom its files are given: root may read every file. */
const asNobody: Deploy = (setup) => {
  execFileSync("chown", ["-R", `${NOBODY_UID}:${NOBODY_UID}`, setup.dir]);
  return serverProcess({ stopSignal: "SIGTERM", uid: NOBODY_UID })(setup);
};

describe("an exit code that cannot be read for a while", needs(CAN_BE_NOBODY, WHY_NOT_NOBODY), () => {
  test("is not taken for none: the run has it once it can be read, and no list and no other run waits for it", async () => {
    await using hub = await startHub({ deploy: asNobody });
    const run = await hub.runScript(`until [ -e ${hub.dir}/go ]; do sleep 0.02; done; exit 7`);
    const exit = join(hub.stateDir, "runs", run.run_id, "exit");
    await hub.restart(async () => {
      // Only now, so that no agent sees the end before its exit code is out of reach.
      writeFileSync(join(hub.dir, "go"), "");
      await until(() => readFileSync(exit, "latin1").startsWith("  7\n") || undefined);
      chmodSync(exit, 0o000);
    });

    const other = await hub.runScript("exit 3");
    expect(await hub.ended(other)).toMatchObject({ status: "failed", exit_code: 3 });
    const waiting = await hub.run(run);
    expect(waiting).toMatchObject({
      status: "running",
      status_reason:
        "Its exit code cannot be read now (EACCES); the host-agent tries again for up to 5 minutes.",
      ended_at: null,
      exit_code: null,
    });
    for (const query of ["", "?status=running"]) {
      const { status, json } = await hub.get(`${RUNS}${query}`);
      expect({ status, runs: json.runs }).toMatchObject({ status: 200 });
      expect(json.runs).toContainEqual(waiting);
    }
    chmodSync(exit, 0o600);
    expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 7 });
  });

  test("and a log that cannot be read for a while is not taken for one that was removed, and is searched for errors once it can be read", async () => {
    await using hub = await startHub({ deploy: asNobody });
    const run = await hub.runScript(
      `until [ -e ${hub.dir}/go ]; do sleep 0.02; done; echo 'Traceback (most recent call last):'; exit 0`,
    );
    const exit = join(hub.stateDir, "runs", run.run_id, "exit");
    await hub.restart(async () => {
      writeFileSync(join(hub.dir, "go"), "");
      await until(() => readFileSync(exit, "latin1").startsWith("  0\n") || undefined);
      chmodSync(run.log_path, 0o000);
    });
    expect(await hub.get(`${RUNS}/${run.run_id}/logs`)).toMatchObject({
      status: 503,
      json: { code: "host_unavailable", detail: "The log cannot be read now (EACCES)" },
    });
    expect(await hub.run(run)).toMatchObject({
      status: "running",
      status_reason: "Its log cannot be read now (EACCES); the host-agent tries again for up to 5 minutes.",
    });
    chmodSync(run.log_path, 0o600);
    expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 0 });
    expect(await hub.log(run)).toBe("Traceback (most recent call last):\n");
  });

  test("counts as unknown when it still cannot be read at the end of the time for it", () => {
    const stateDir = tempDir();
    const exit = join(stateDir, "runs", "run_000000000001", "exit");
    mkdirSync(dirname(exit), { recursive: true });
    writeFileSync(exit, "  7\n");
    chownSync(exit, NOBODY_UID, NOBODY_UID);
    for (const folder of [stateDir, dirname(dirname(exit)), dirname(exit)]) chmodSync(folder, 0o755);
    chmodSync(exit, 0o000);

    const { stdout, stderr } = spawnSync(process.execPath, [LOOK_AS, stateDir, "run_000000000001"], {
      uid: NOBODY_UID,
      gid: NOBODY_UID,
      encoding: "utf8",
    });

    expect(stderr).toBe("");
    expect(JSON.parse(stdout)).toEqual([
      { state: "unreadable", errno: "EACCES" },
      { state: "ended", unreadable: "EACCES", rebooted: false, commandStarted: true },
    ]);
  });
});
