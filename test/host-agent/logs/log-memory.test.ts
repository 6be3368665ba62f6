import { readFileSync } from "node:fs";
import { stat } from "node:fs/promises";

import { describe, expect, test } from "vitest";

import { startHub } from "../../support/hub.ts";
import { serverProcess } from "../../support/server-process.ts";

const MIB = 1_048_576;

describe("the server's memory", () => {
  test.for([
    ["one line of 200 MB", "head -c 200000000 /dev/zero | tr '\\0' x"],
    ["a second of yes", "timeout 1 yes 'a line that goes on forever'; exit 0"],
  ] as const)("does not grow with %s in a log", async ([, script]) => {
    let server = 0;
    const deploy = serverProcess({ stopSignal: "SIGTERM", onStart: (pid) => (server = pid) });
    await using hub = await startHub({ deploy });
    const warmUp = await hub.ended(await hub.runScript("echo hello"));
    await hub.log(warmUp);
    const before = rssBytes(server);

    const run = await hub.runScript(script);
    const path = `/api/v1/scripts/runs/${run.run_id}/logs`;
    let peak = before;
    for (let record = run, offset = 0; record.ended_at === null; record = await hub.run(run)) {
      const { json } = await hub.get(`${path}?after=${offset}&max_bytes=65536`);
      expect(json.offset - offset).toBeLessThanOrEqual(65_536);
      offset = json.offset;
      peak = Math.max(peak, rssBytes(server));
    }
    const { size } = await stat(run.log_path);
    expect(size).toBeGreaterThan(50 * MIB);
    for (const place of [0, 0.25, 0.5, 0.75, 0.99]) {
      const after = Math.floor(size * place);
      const { json } = await hub.get(`${path}?after=${after}&max_bytes=${MIB}`);
      expect(json.offset).toBe(Math.min(after + MIB, size));
      peak = Math.max(peak, rssBytes(server));
    }
    expect(peak - before).toBeLessThan(100 * MIB);
    expect(await hub.run(run)).toMatchObject({ status: "completed" });
  });
});

/** Resident memory (proc_pid_status(5)). */
function rssBytes(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1];
  return Number(kib) * 1024;
}
