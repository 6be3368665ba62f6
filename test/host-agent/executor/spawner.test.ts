import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { isAlive, identify } from "../../../host-agent/executor/process-identity.ts";
import { openSpawner } from "../../../host-agent/executor/spawner.ts";
import { startHub, until } from "../../support/hub.ts";
import { spawnerOf, spawnersOf } from "../../support/processes.ts";
import { serverProcess } from "../../support/server-process.ts";

const RUNS = "/api/v1/scripts/runs";

describe("the process that starts runs", () => {
  test("has no environment, and ends with its server, however the server ends", async () => {
    for (const stopSignal of ["SIGKILL", "SIGTERM"] as const) {
      const pids: number[] = [];
      const deploy = serverProcess({ stopSignal, onStart: (pid) => pids.push(pid) });
      const hub = await startHub({ deploy, env: { HUB_CALLBACK_SECRET: `whsec_${"c2VjcmV0".repeat(5)}` } });
      const spawner = identify(spawnerOf(pids[0]!))!;
      const names = readFileSync(`/proc/${spawner.pid}/environ`, "latin1")
        .split("\0")
        .map((entry) => entry.split("=")[0]!);

      expect(names.filter((name) => name !== "" && !name.startsWith("NODE_"))).toEqual([]);
      await hub[Symbol.asyncDispose]();
      await until(() => !isAlive(spawner) || undefined);
    }
  });

  test("is ended by the stop of its server although it is stopped itself", async () => {
    const pids: number[] = [];
    const deploy = serverProcess({ stopSignal: "SIGTERM", onStart: (pid) => pids.push(pid) });
    const hub = await startHub({ deploy });
    const spawner = identify(spawnerOf(pids[0]!))!;
    process.kill(spawner.pid, "SIGSTOP");
    await hub[Symbol.asyncDispose]();
    expect(await until(() => !isAlive(spawner) || undefined)).toBe(true);
  });

  test("is replaced when it was killed: the launch is refused, starts nothing, and its Idempotency-Key can start it", async () => {
    await using hub = await startHub();
    const ledger = join(hub.dir, "ledger");
    const path = await hub.script("job.sh", `echo ran >> ${ledger}`);
    const launch = () => hub.post(RUNS, { path }, { headers: { "idempotency-key": "one" } });
    const spawner = spawnerOf(process.pid);
    process.kill(spawner, "SIGSTOP");
    const asked = [launch(), launch()];
    await until(async () => (await hub.get(RUNS)).json.runs.length === 1 || undefined);
    process.kill(spawner, "SIGKILL");

    for (const { status, json, headers } of await Promise.all(asked)) {
      expect({ status, code: json.code }).toEqual({ status: 503, code: "host_unavailable" });
      expect(headers.get("retry-after")).toBe("1");
    }
    const { status, json } = await launch();
    expect(status).toBe(201);
    await hub.ended(json);
    expect(await readFile(ledger, "utf8")).toBe("ran\n");
  });

  test("loses no launch when it is killed at any moment: each Idempotency-Key runs exactly once", async () => {
    await using hub = await startHub();
    const ledger = join(hub.dir, "ledger");
    const path = await hub.script("job.sh", `echo "$1" >> ${ledger}`);
    const keys = Array.from({ length: 60 }, (_, i) => `key-${i}`);
    let acknowledged = 0;
    let refused = 0;
    const launched = await Promise.all(
      keys.map((key) =>
        until(async () => {
          const order = { path, args: key };
          const { status, json } = await hub.post(RUNS, order, { headers: { "idempotency-key": key } });
          expect([201, 503]).toContain(status);
          if (status === 503) refused++;
          else if (++acknowledged % 6 === 0) {
            killSpawner();
            // The next one, while it starts: the launches that it was asked for meanwhile have no answer.
            setTimeout(killSpawner, 20);
          }
          return status === 201 ? json : undefined;
        }),
      ),
    );

    expect(refused).toBeGreaterThan(0);
    for (const run of launched) expect(await hub.ended(run)).toMatchObject({ status: "completed" });
    expect((await readFile(ledger, "utf8")).trim().split("\n").toSorted()).toEqual(keys.toSorted());
  });

  test("is ended when it does not answer, and its launches are unknown as after a crash", async () => {
    const spawner = openSpawner(200);
    spawner.warmUp();
    const stuck = await until(() => identify(spawnerOf(process.pid)));
    process.kill(stuck.pid, "SIGSTOP");
    const plan = { argv: ["/bin/true"], cwd: "/", terminal: false, script: undefined } as never;
    const asked = spawner.startRun(plan, { folder: { path: "/nowhere/run_1" }, env: {} } as never);

    await expect(asked).rejects.toThrow("the process that starts runs does not answer");
    await until(() => !isAlive(stuck) || undefined);
    await spawner.close();
  });
});

/** At any point of its work; none may exist at this moment. */
function killSpawner(): void {
  for (const pid of spawnersOf(process.pid)) process.kill(pid, "SIGKILL");
}
