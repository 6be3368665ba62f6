// oxlint-disable vitest/no-conditional-expect, vitest/no-standalone-expect, no-await-in-loop -- a property has its cases
import { closeSync, ftruncateSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

import * as fc from "fast-check";
import { expect, test } from "vitest";

import { openNonceMemory } from "../../../host-agent/door/nonce-memory.ts";
import { hostClock } from "../../../host-agent/system/clock.ts";
import { processesOf } from "../../../host-agent/executor/process-tree.ts";
import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { readStarted, type RunFolder, runFolder } from "../../../host-agent/executor/run-folder.ts";
import { type Hub, startHub, until } from "../../support/hub.ts";

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

/** What is left of the write of an exit code: less than all of it over the blanks, or what is no part of it. */
const tornCode: fc.Arbitrary<Tear> = fc.oneof(
  tear.map(({ bytes, ...rest }) => ({
    ...rest,
    // Neither a blank nor a digit: those would make up a code, which tearing does not.
    bytes: bytes.map((byte) => (byte === 0x20 || (byte >= 0x30 && byte <= 0x39) ? 0 : byte)),
  })),
  fc
    .integer({ min: 1, max: 3 })
    .map((kept) => ({ at: kept / EXIT_BYTES, bytes: new Uint8Array(), cutsOff: true })),
);
const EXIT_BYTES = 8;

async function listRuns(hub: Hub): Promise<RunRecord[]> {
  return (await hub.get(`${RUNS}?limit=100`)).json.runs;
}

test("after any torn write in a run folder or kv.db, the start succeeds and no ended run changes", async () => {
  await using hub = await startHub();
  const codes = [0, 9, 77];
  for (const code of codes) await hub.ended(await hub.runScript(`exit ${code}`));
  const before = await listRuns(hub);
  const startDamaged = async (file: string, index: number, how: Tear) => {
    await hub.restart(() => {
      const folder = file.startsWith("kv") ? hub.stateDir : join(hub.stateDir, "runs", before[index]!.run_id);
      damage(join(folder, file), how);
    });
    expect(await listRuns(hub)).toEqual(before);
    const path = join(hub.root, "none.sh");
    expect((await hub.post(RUNS, { path }, { headers: { "idempotency-key": "k" } })).status).toBe(404);
  };
  let underWay: Promise<void> | undefined;
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom("started", "exit", "kv.db", "kv.db-wal"),
      fc.nat(2),
      tear,
      (file, index, how) => (underWay = startDamaged(file, index, how)),
    ),
    { numRuns: 25, interruptAfterTimeLimit: 4_000 },
  );
  // The time limit does not wait for the last case.
  await underWay;
  const path = await hub.script("after.sh", "true");
  const launch = () => hub.post(RUNS, { path }, { headers: { "idempotency-key": "k" } });
  expect((await launch()).json.run_id).toBe((await launch()).json.run_id);
});

interface TornRun {
  code: number;
  file: "started" | "exit";
  how: Tear;
  /** How far the launch had come in runs.db. */
  row: "running" | "launching";
  endsMeanwhile: boolean;
}

/** One run of each kind, each torn in a different way. */
const tornRuns: fc.Arbitrary<TornRun[]> = fc.tuple(
  ...(["started", "exit"] as const).flatMap((file) =>
    (["running", "launching"] as const).flatMap((row) =>
      [false, true].map((endsMeanwhile) =>
        fc.record({
          code: fc.constantFrom(0, 77, 112),
          file: fc.constant(file),
          how: tornCode,
          row: fc.constant(row),
          endsMeanwhile: fc.constant(endsMeanwhile),
        }),
      ),
    ),
  ),
);

test("after any torn write in the folder of an unfinished run, the record has the true exit code or none", async () => {
  await using hub = await startHub();
  const path = await hub.script("wait.sh", 'until [ -e "$1" ]; do sleep 0.1; done; exit "$2"');
  let launches = 0;
  await fc.assert(
    fc.asyncProperty(tornRuns, async (wanted) => {
      const torn = await Promise.all(
        wanted.map(async (each) => {
          const go = join(hub.dir, `go-${launches++}`);
          const { json } = await hub.post(RUNS, { path, args: `${go} ${each.code}` });
          await until(() => readStarted(folderOf(hub, json)));
          return { ...each, go, run: json as RunRecord };
        }),
      );
      await hub.restart(async () => {
        for (const { run, go } of torn.filter((each) => each.endsMeanwhile)) {
          writeFileSync(go, "");
          await until(() => processesOf(run.run_id).length === 0 || undefined);
        }
        using db = new DatabaseSync(join(hub.stateDir, "runs.db"));
        for (const { run, file, how, row } of torn) {
          damage(folderOf(hub, run)[file], how);
          if (row === "launching") db.prepare(AS_IT_WAS_LAUNCHED).run(run.run_id);
        }
      });
      await Promise.all(torn.map((each) => expectTheTruth(hub, each)));
    }),
    { numRuns: 2, endOnFailure: true },
  );
});

async function expectTheTruth(
  hub: Hub,
  { run, go, code, endsMeanwhile }: TornRun & { run: RunRecord; go: string },
): Promise<void> {
  if (!endsMeanwhile) {
    expect(await hub.run(run)).toMatchObject({ status: "running", ended_at: null });
    writeFileSync(go, "");
  }
  const { status, status_reason, exit_code } = await hub.ended(run);
  expect(status_reason).not.toBe("");
  if (exit_code !== null) {
    return expect([exit_code, status]).toEqual([code, code === 0 ? "completed" : "failed"]);
  }
  expect(["unknown", "failed"]).toContain(status);
  // Whatever was torn before, a live run ends with its own write.
  expect(endsMeanwhile).toBe(true);
}

const AS_IT_WAS_LAUNCHED =
  "UPDATE runs SET status = 'launching', pid = NULL, pid_start = NULL, boot_id = NULL, log_file = NULL WHERE run_id = ?";

function folderOf(hub: Hub, { run_id }: RunRecord): RunFolder {
  return runFolder(hub.stateDir, run_id);
}

test("after any torn write in runs.db, the start is refused with a reason or every listed run is true", async () => {
  await using hub = await startHub();
  for (const code of [0, 9, 77]) await hub.ended(await hub.runScript(`exit ${code}`));
  const before = await listRuns(hub);
  const { openRunStore } = await import("../../../host-agent/store/run-store.ts");
  const { ConfigError } = await import("../../../host-agent/system/config-error.ts");
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
        const rows = store.list({ source: "script", limit: 100 }).runs;
        store.close();
        const known = new Set(before.map(({ run_id }) => run_id));
        for (const row of rows) expect(known).toContain(row.runId);
      } catch (error) {
        expect(error).toBeInstanceOf(ConfigError);
        expect((error as Error).message).toMatch(/^HUB_STATE_DIR: .*runs|copy-/);
      }
    }),
    { numRuns: 100, interruptAfterTimeLimit: 4_000 },
  );
});

test("after any damage to door.mark, the door of the agent opens, and accepts no earlier request again", async () => {
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
        const memory = openNonceMemory(
          path,
          hostClock(() => second * 1_000),
        );
        expect(memory.take("n", second - 1)).toBe("before");
        expect(memory.take("n", second + 6)).toBe("new");
        expect(memory.take("n", second + 6)).toBe("seen");
        memory.close();
      },
    ),
    { numRuns: 200 },
  );
});
