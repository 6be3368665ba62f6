import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";

import { expect, onTestFinished, test } from "vitest";

import { identify, isAlive } from "../host-agent/process-identity.ts";
import { commandLine, processesOf } from "../host-agent/process-tree.ts";
import { startHub, until } from "./hub.ts";

const STOP_AS = fileURLToPath(new URL("fixtures/stop-as.ts", import.meta.url));
const NOBODY = { uid: 65_534, gid: 65_534 };
/** That user has to get to this code, too. */
const CAN_BE_NOBODY =
  process.getuid?.() === 0 && spawnSync(process.execPath, ["--check", STOP_AS], NOBODY).status === 0;

test.skipIf(!CAN_BE_NOBODY)(
  "a process of another user shields none of its run's others, and the record says that it goes on (skipped when not root)",
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
    const { pid, startTime, bootId } = identify(leader.pid!)!;
    const run = { run_id: "run_000000000000", status: "running", pid, pid_start: startTime, boot_id: bootId };

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

test("a kill reaches the daemons that a run is starting at that very moment", async () => {
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

test("a kill of a run that another agent is just starting says so, and is not carried out later", async () => {
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
