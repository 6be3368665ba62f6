// oxlint-disable vitest/no-conditional-expect, no-await-in-loop -- a property has its cases
import { closeSync, ftruncateSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { existsSync } from "node:fs";
import { join } from "node:path";

import * as fc from "fast-check";
import { expect, test } from "vitest";

import { openNonceMemory } from "../../host-agent/nonce-memory.ts";
import type { RunRecord } from "../../host-agent/protocol/schemas.ts";
import { type Hub, startHub } from "../hub.ts";

const RUNS = "/api/v1/scripts/runs";

/** What a torn write leaves: an end that is missing, or a piece that holds something else. */
interface Tear {
  /** From 0, the beginning, to 1, the end. */
  at: number;
  bytes: Uint8Array;
  cutsOff: boolean;
}

const tear: fc.Arbitrary<Tear> = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  bytes: fc.oneof(fc.uint8Array({ maxLength: 4_096 }), fc.constant(new Uint8Array(4_096))),
  cutsOff: fc.boolean(),
});

function damage(path: string, { at, bytes, cutsOff }: Tear): void {
  if (!existsSync(path)) return;
  const { length } = readFileSync(path);
  const fd = openSync(path, "r+");
  const position = Math.floor(at * length);
  if (cutsOff) ftruncateSync(fd, position);
  else writeSync(fd, bytes.subarray(0, Math.max(0, length - position)), 0, undefined, position);
  closeSync(fd);
}

async function listRuns(hub: Hub): Promise<RunRecord[]> {
  return (await hub.get(`${RUNS}?limit=100`)).json.runs;
}

test("whatever a torn write leaves in a run's folder or in kv.db, the start succeeds and no run that had ended changes", async () => {
  await using hub = await startHub();
  const codes = [0, 9, 77];
  for (const code of codes) await hub.ended(await hub.runScript(`exit ${code}`));
  const before = await listRuns(hub);
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom("started", "exit", "kv.db", "kv.db-wal"),
      fc.nat(2),
      tear,
      async (file, index, how) => {
        await hub.restart(() => {
          const folder = file.startsWith("kv")
            ? hub.stateDir
            : join(hub.stateDir, "runs", before[index]!.run_id);
          damage(join(folder, file), how);
        });
        expect(await listRuns(hub)).toEqual(before);
        const path = join(hub.root, "none.sh");
        expect((await hub.post(RUNS, { path }, { headers: { "idempotency-key": "k" } })).status).toBe(404);
      },
    ),
    { numRuns: 25, interruptAfterTimeLimit: 4_000 },
  );
  const path = await hub.script("after.sh", "true");
  const launch = () => hub.post(RUNS, { path }, { headers: { "idempotency-key": "k" } });
  expect((await launch()).json.run_id).toBe((await launch()).json.run_id);
});

test("whatever a torn write leaves of runs.db, the start is refused in a sentence or every run that is listed is true", async () => {
  await using hub = await startHub();
  for (const code of [0, 9, 77]) await hub.ended(await hub.runScript(`exit ${code}`));
  const before = await listRuns(hub);
  const { openRunStore } = await import("../../host-agent/run-store.ts");
  const { ConfigError } = await import("../../host-agent/config.ts");
  // As it is on the disk while the agent runs: most of it in the write-ahead log.
  const files = new Map(
    ["runs.db", "runs.db-wal"].map((name) => [name, readFileSync(join(hub.stateDir, name))]),
  );
  fc.assert(
    fc.property(fc.constantFrom(...files.keys()), tear, (file, how) => {
      const copy = join(hub.dir, `copy-${Math.random().toString(36).slice(2)}.db`);
      for (const [name, bytes] of files) writeFileSync(copy + name.slice("runs.db".length), bytes);
      damage(copy + file.slice("runs.db".length), how);
      try {
        const store = openRunStore(copy);
        const rows = store.list({ source: "script", limit: 100 });
        store.close();
        const known = new Set(before.map(({ run_id }) => run_id));
        for (const row of rows) expect(known).toContain(row.run_id);
      } catch (error) {
        expect(error).toBeInstanceOf(ConfigError);
        expect((error as Error).message).toMatch(/^HUB_STATE_DIR: .*runs|copy-/);
      }
    }),
    { numRuns: 100, interruptAfterTimeLimit: 4_000 },
  );
});

test("whatever stands in door.mark, the door opens, and later than what it let in", async () => {
  await using hub = await startHub();
  const path = join(hub.dir, "door.mark");
  const second = 1_800_000_000;
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 40 }),
        fc.nat().map((n) => Buffer.from(`${n}\n`)),
      ),
      (bytes) => {
        writeFileSync(path, bytes);
        const memory = openNonceMemory(path, () => second * 1_000);
        expect(memory.take("n", second - 1)).toBe("before");
        expect(memory.take("n", second + 6)).toBe("new");
        expect(memory.take("n", second + 6)).toBe("seen");
        memory.close();
      },
    ),
    { numRuns: 200 },
  );
});
