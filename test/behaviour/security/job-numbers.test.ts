import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import * as fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";

import { localExecutor } from "../../../host-agent/executor/local.ts";
import { identify, isAlive } from "../../../host-agent/executor/process-identity.ts";
import { runFolder } from "../../../host-agent/executor/run-folder.ts";
import { createReconcile } from "../../../host-agent/runs/reconcile.ts";
import { publicRun } from "../../../host-agent/runs/record.ts";
import { openRunStore } from "../../../host-agent/store/run-store.ts";
import { startHub } from "../../support/hub.ts";
import { needs } from "../../support/needs.ts";
import { launchingRow, newRun, rewriteRow } from "../../support/runs.ts";

/** A tmpfs: its times have 64 bits, so that a file can have any. */
const TMPFS = "/dev/shm";
const HAS_TMPFS = existsSync(TMPFS);
const WHY_NOT = "this host has no tmpfs at /dev/shm";
const RUNS = "/api/v1/scripts/runs";
/** What a Date takes, in seconds. */
const MAX_DATE_SECONDS = 8_640_000_000_000;

function tmpfsFolder(): string {
  const folder = mkdtempSync(join(TMPFS, "hub-numbers-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Sets the time of a file as touch(1) does, in seconds: Node's utimes loses digits. */
function touch(path: string, seconds: bigint | string): void {
  const { status, stderr } = spawnSync("touch", ["-d", `@${seconds}`, path], { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
}

describe("a number that a job wrote", needs(HAS_TMPFS, WHY_NOT), () => {
  test("as the time of its exit file breaks no list, and its run ends between its start and now", async () => {
    await using hub = await startHub({ env: { HUB_STATE_DIR: join(tmpfsFolder(), "state") } });
    const run = await hub.runScript(
      `dir="${hub.stateDir}/runs/$HUB_RUN_ID"; printf '  0\\n' >"$dir/new"
       touch -d @9000000000000000 "$dir/new"; mv "$dir/new" "$dir/exit"; exec sleep 60`,
    );
    const ended = await hub.ended(run);
    expect(ended.ended_at).toBeGreaterThanOrEqual(run.started_at);
    expect(ended.ended_at).toBeLessThanOrEqual(Date.now() / 1000);
    await hub.restart();
    const { status, json } = await hub.get(RUNS);
    expect(status).toBe(200);
    expect(json.runs).toEqual([ended]);
  });

  test("as its pid never keeps the agent from starting, and is never that of a process that is not the run's", async () => {
    await using hub = await startHub({ env: { HUB_KV: "memory:" } });
    const forged = ["9007199254740993", "99999999999999999999", "0", "4194305", String(process.pid), "1"];
    for (const pid of forged) {
      const run = await hub.runScript("true");
      await hub.ended(run);
      await hub.restart(() => {
        const folder = join(hub.stateDir, "runs", run.run_id);
        writeFileSync(join(folder, "started"), `${pid}\n`);
        writeFileSync(join(folder, "exit"), " ".repeat(8));
        rewriteRow(hub.stateDir, run.run_id, launchingRow());
      });
      expect(await hub.run(run), pid).toMatchObject({ status: "unknown", exit_code: null });
      expect((await hub.get(RUNS)).status).toBe(200);
    }
  });

  test("as the time of a script is listed as a time that a Date takes, next to all other scripts", async () => {
    const root = tmpfsFolder();
    await using hub = await startHub({ env: { HUB_SCRIPT_ROOTS: root } });
    const times = { "a.sh": "9000000000000000", "b.sh": "1700000000", "c.sh": "-9000000000000000" };
    for (const [name, seconds] of Object.entries(times)) {
      writeFileSync(join(root, name), "#!/bin/sh\n");
      touch(join(root, name), seconds);
    }
    const { status, json } = await hub.get("/api/v1/scripts");
    expect(status).toBe(200);
    expect(json.scripts.map(({ modified_at }: { modified_at: number }) => modified_at)).toEqual([
      MAX_DATE_SECONDS,
      1_700_000_000,
      -MAX_DATE_SECONDS,
    ]);
  });

  test("whatever its two files contain and whenever they were written: the run has a record, and so have all others", async () => {
    const stateDir = tmpfsFolder();
    const store = openRunStore(":memory:");
    onTestFinished(() => store.close());
    const self = identify(process.pid)!;
    const reconciling = createReconcile({
      store,
      executor: localExecutor({ stateDir, env: {}, runUser: undefined }),
      signalLock: { hold: (work) => work(), close() {} },
      now: Date.now,
      self,
      isAgentAlive: isAlive,
      isLaunching: () => false,
      markers: async () => () => [],
    });
    const digits = fc.stringMatching(/^ {0,3}-?\d{0,24}\n?$/);
    const content = fc.oneof(digits, fc.string({ maxLength: 80 }), fc.constantFrom("agent\n", "", " 0\n"));
    const seconds = fc.bigInt({ min: -9_000_000_000_000_000n, max: 9_000_000_000_000_000n });
    /** The run of a launch that nobody completed, with these two files. */
    const interrupted = ([started, exit, mtime]: readonly [string, string, bigint]) => {
      const draft = newRun({ logPath: join(stateDir, "log"), launcher: self });
      const { run } = store.insertOrFind(
        draft,
        () => true,
        () => {},
      );
      const folder = runFolder(stateDir, run.runId);
      mkdirSync(folder.path, { recursive: true });
      writeFileSync(folder.started, started);
      writeFileSync(folder.exit, exit);
      touch(folder.exit, mtime);
      return run;
    };
    const files = fc.array(fc.tuple(content, content, seconds), { minLength: 12, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(files, async (all) => {
        const runs = all.map(interrupted);
        // At the same time: each may wait for half a second for a pid.
        await Promise.all(runs.map((run) => reconciling.reconcile(run)));
        expect(store.alive()).toEqual([]);
        for (const { ended_at, started_at, pid } of runs.map(({ runId }) => publicRun(store.get(runId)!))) {
          expect(ended_at).toBeGreaterThanOrEqual(started_at);
          expect(ended_at).toBeLessThanOrEqual(Date.now() / 1000);
          expect(Number(pid)).toBeLessThanOrEqual(4_194_304);
        }
        expect(store.list({ source: "script", limit: 1_000 }).runs).not.toHaveLength(0);
      }),
      { numRuns: 4 },
    );
  });
});

describe("a row that an earlier version stored", () => {
  test("with numbers that are no safe integers costs itself, and neither a list nor a start", async () => {
    await using hub = await startHub();
    const [broken, sound] = [await hub.runScript("true"), await hub.runScript("true")];
    for (const run of [broken, sound]) await hub.ended(run);
    await hub.restart(() =>
      rewriteRow(hub.stateDir, broken.run_id, { ended_at: 9e18, pid: 9_007_199_254_740_994 }),
    );
    const { status, json } = await hub.get(RUNS);
    expect(status).toBe(200);
    expect(json.runs.map(({ run_id }: { run_id: string }) => run_id)).toEqual([sound.run_id, broken.run_id]);
  });
});
