import { randomUUID } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { describe, expect, test } from "vitest";

import { processesOf } from "../../host-agent/executor/process-tree.ts";
import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { auditOf } from "../support/audit-log.ts";
import { type BlockDevice, canMount, type FileSystem, openBlockDevice } from "../support/block-device.ts";
import { type Hub, startHub, until } from "../support/hub.ts";
import { needs } from "../support/needs.ts";
import { spawnersOf } from "../support/processes.ts";
import { serverProcess } from "../support/server-process.ts";
import { tempDir } from "../support/temp-dir.ts";

const SCRIPTS = "/api/v1/scripts/runs";
const LAUNCHES = 4;
/** The power goes this long after the last launch was acknowledged: a round each. */
const DELAYS_MS: Record<FileSystem, number[]> = { ext4: [0, 40, 400], xfs: [20, 150, 700] };

/** Starts a server in a boot of the host that has the id in this file. */
const IN_BOOT = 'mount --bind "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@"';

/** A Hub whose state is on a disk that can lose power. */
async function startOnDisk(
  kind: FileSystem,
): Promise<{ hub: Hub; losePower(): Promise<void> } & AsyncDisposable> {
  const dir = tempDir();
  const device: BlockDevice = openBlockDevice(kind, dir);
  const bootId = join(dir, "boot_id");
  writeFileSync(bootId, `${randomUUID()}\n`);
  const prefix = ["unshare", "--mount", "/bin/sh", "-c", IN_BOOT, "sh", bootId];
  let server = 0;
  const onStart = (pid: number) => (server = pid);
  const hub = await startHub({
    deploy: serverProcess({ stopSignal: "SIGKILL", prefix, onStart }),
    env: { HUB_STATE_DIR: join(device.mountPoint, "state") },
  });
  return {
    hub,
    /** What is on the disk at this moment is all that the next boot of the host has. */
    async losePower() {
      const { json } = await hub.get(`${SCRIPTS}?status=running&limit=500`);
      // The copy takes a while, and a disk holds nothing that was written after what it lacks.
      const writers = [server, ...spawnersOf(server)];
      for (const pid of writers) process.kill(pid, "SIGSTOP");
      device.copy();
      for (const pid of writers) process.kill(pid, "SIGKILL");
      await hub.restart(async () => {
        for (const { run_id } of json.runs as RunRecord[]) await endRun(run_id);
        device.losePower();
        writeFileSync(bootId, `${randomUUID()}\n`);
      });
    },
    async [Symbol.asyncDispose]() {
      await hub[Symbol.asyncDispose]();
      device[Symbol.dispose]();
    },
  };
}

async function endRun(runId: string): Promise<void> {
  await until(() => {
    const left = processesOf(runId);
    for (const { pid } of left) process.kill(pid, "SIGKILL");
    return left.length === 0 || undefined;
  });
}

describe.for<FileSystem>(["ext4", "xfs"])("a loss of power on %s", (kind) => {
  const mountable = needs(canMount(kind), `only root with mkfs.${kind} and a loop device can mount an image`);

  test("starts no acknowledged launch again, and keeps its key for its hour", mountable, async () => {
    await using world = await startOnDisk(kind);
    const { hub } = world;
    const ledger = join(hub.dir, "ledger");
    writeFileSync(ledger, "");
    const path = await hub.script("job.sh", `echo "$1" >>${ledger}; echo started; sleep 60`);
    for (const [round, delayMs] of DELAYS_MS[kind].entries()) {
      const keys = Array.from({ length: LAUNCHES }, (_, i) => `${kind}-${round}-${i}`);
      const launch = (key: string) =>
        hub.post(SCRIPTS, { path, args: key }, { headers: { "idempotency-key": key } });
      const acknowledged = await Promise.all(keys.map(launch));
      await sleep(delayMs);
      await world.losePower();

      for (const [i, { json: before }] of acknowledged.entries()) {
        const { status, json } = await launch(keys[i]!);
        expect({ status, run_id: json.run_id }).toEqual({ status: 201, run_id: before.run_id });
        expect(await hub.ended(json)).toMatchObject({
          status: "unknown",
          status_reason: expect.stringMatching(/^The host was restarted/),
        });
      }
      const started = readFileSync(ledger, "utf8").trim().split("\n");
      expect(started.toSorted()).toEqual([...new Set(started)].toSorted());
    }
    const { stdout, stderr } = await auditOf(hub, "verify");
    expect({ stderr, isIntact: stdout.includes("intact to") }).toEqual({ stderr: "", isIntact: true });
  });
});
