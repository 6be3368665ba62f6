import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { processesOf } from "../../host-agent/executor/process-tree.ts";
import { startHub, until } from "../support/hub.ts";
import { needs } from "../support/needs.ts";
import { tempDir } from "../support/temp-dir.ts";
import { openDisk } from "./prove/disk.ts";

const RUNS = "/api/v1/scripts/runs";
/** On a real disk no limit of a server replaces it. */
const NO_SERVERS: number[] = [];

test(
  "on a full disk records and lists are answered, and a kill ends its run and is recorded",
  needs(process.getuid?.() === 0, "only root can mount a small disk"),
  async (context) => {
    const disk = openDisk(join(tempDir(), "disk"));
    onTestFinished(() => disk.remove());
    if (disk.kind !== "tmpfs") context.skip("mount is not allowed here");
    const folder = join(disk.path, "state");
    await using hub = await startHub({ env: { HUB_STATE_DIR: folder } });
    const [killed, ended] = [
      await hub.runScript("sleep 60"),
      await hub.runScript("read -t 1 <> <(:); exit 7"),
    ];
    await until(async () => (await hub.get("/healthz")).json.status === "ok" || undefined);
    const { fill } = disk;
    await until(() => fill(NO_SERVERS) || undefined);

    expect(await hub.kill(killed)).toMatchObject({ status: 200, json: { status: "killed" } });
    await until(() => processesOf(killed.run_id).length === 0 || undefined);
    await until(() => processesOf(ended.run_id).length === 0 || undefined);
    for (const path of [`${RUNS}/${ended.run_id}`, RUNS, `${RUNS}?status=running`]) {
      expect({ path, status: (await hub.get(path)).status }).toEqual({ path, status: 200 });
    }

    disk.free(NO_SERVERS);
    expect(await hub.ended(killed)).toMatchObject({ status: "killed", signal: "SIGTERM" });
    expect(await hub.ended(ended)).toMatchObject({ status: "failed", exit_code: 7 });
    await until(async () => (await hub.get("/healthz")).json.status === "ok" || undefined);
  },
);
