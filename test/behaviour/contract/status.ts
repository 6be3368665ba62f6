import { appendFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { commandLine, processesOf } from "../../../host-agent/executor/process-tree.ts";
import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { type Deploy, type Hub, sharedHub, startHub, until } from "../../support/hub.ts";

const TRUE = { recipe_id: "true", title: "True", description: "Does nothing", command: ["/bin/true"] };
const PIPELINES = "/api/v1/pipelines/runs";
const SCRIPTS = "/api/v1/scripts/runs";
const GO = "until [ -e go ]; do sleep 0.02; done";
const TRACEBACK = "Traceback (most recent call last)";

/** What a run is said to be, as every deployment says it. */
export function statusContract(deploy: Deploy): void {
  describe("status of a run that has ended", () => {
    const shared = sharedHub({ deploy });

    test.for<[string, string, Partial<RunRecord>, RegExp]>([
      ["exit 0 is completed", "echo fine", { status: "completed", exit_code: 0, signal: null }, /code 0/],
      ["exit 9 is failed", "exit 9", { status: "failed", exit_code: 9, signal: null }, /code 9/],
      ["exit 255 is no signal", "exit 255", { status: "failed", exit_code: 255, signal: null }, /code 255/],
      [
        "exit 0 with an error at the end of the log is failed",
        `echo start; echo '${TRACEBACK}:'; echo done`,
        { status: "failed", exit_code: 0, signal: null },
        /code 0, but .*Traceback/,
      ],
      [
        "exit 0 with reports that only sound like errors is completed",
        "echo '0 errors'; echo 'error rate: 0.1'; echo 'MeanAbsoluteError: 0.031'; echo 'no FATAL errors'",
        { status: "completed", exit_code: 0 },
        /code 0/,
      ],
      [
        "an error far above the end of the log does not count",
        `echo '${TRACEBACK}:'; seq 40`,
        { status: "completed", exit_code: 0 },
        /code 0/,
      ],
      [
        "SIGKILL from elsewhere is failed, with the signal",
        "kill -KILL $$",
        { status: "failed", exit_code: 137, signal: "SIGKILL" },
        /\(SIGKILL, not sent through this API\)/,
      ],
      [
        "SIGTERM from elsewhere is failed, with the signal",
        "kill -TERM $$",
        { status: "failed", exit_code: 143, signal: "SIGTERM" },
        /\(SIGTERM, not sent through this API\)/,
      ],
      [
        "a wrapper killed together with a silent command is unknown",
        "kill -KILL $PPID $$",
        { status: "unknown", exit_code: null, signal: null },
        /left no exit code/,
      ],
      [
        "a wrapper killed together with a command that said nothing of an error is unknown",
        "echo 'all 5 records done'; kill -KILL $PPID $$",
        { status: "unknown", exit_code: null, signal: null },
        /does not tell how it ended/,
      ],
      [
        "a wrapper killed together with a command whose log ends in an error is failed",
        `echo '${TRACEBACK}:'; kill -KILL $PPID $$`,
        { status: "failed", exit_code: null, signal: null },
        /left no exit code.*Traceback/,
      ],
    ])("%s", async ([, script, expected, reason]) => {
      const hub = shared();
      const before = Math.floor(Date.now() / 1000);
      const run = await hub.ended(await hub.runScript(script));

      expect(run).toMatchObject(expected);
      expect(run.status_reason).toMatch(reason);
      const { started_at, ended_at } = run;
      expect(Number.isInteger(started_at) && Number.isInteger(ended_at)).toBe(true);
      expect(started_at).toBeGreaterThanOrEqual(before);
      expect(ended_at).toBeGreaterThanOrEqual(started_at);
      expect(ended_at).toBeLessThanOrEqual(Date.now() / 1000);
    });

    test("a background process that keeps the log open does not delay the final status", async () => {
      const hub = shared();
      const run = await hub.runScript("sleep 600 & exit 0");

      expect(await hub.ended(run)).toMatchObject({ status: "completed", exit_code: 0 });
      expect(processesOf(run.run_id).map(({ pid }) => commandLine(pid))).toContain("sleep\u0000600\u0000");
    });

    test("a final status appears only once the log is complete", async () => {
      const hub = shared();
      const length = 204_800;
      const oneRun = async () => {
        const run = await hub.runScript(`printf '%0${length}d' 0; exit 5`);
        for (;;) {
          const record = await hub.run(run);
          if (record.status === "running") continue;
          expect(record).toMatchObject({ status: "failed", exit_code: 5 });
          const { json } = await hub.get(`${SCRIPTS}/${run.run_id}/logs?max_bytes=1048576`);
          return json.chunk.length as number;
        }
      };
      for (let round = 0; round < 10; round++) {
        expect(await Promise.all([oneRun(), oneRun(), oneRun(), oneRun()])).toEqual(Array(4).fill(length));
      }
    });

    test("a final status never changes again, whatever happens to the files of the run", async () => {
      await using hub = await startHub({ deploy });
      const completed = await hub.ended(await hub.runScript("echo fine"));
      const failed = await hub.ended(await hub.runScript("exit 4"));
      const unknown = await hub.ended(await hub.runScript("kill -KILL $PPID $$"));
      const records = [unknown, failed, completed];

      for (const { run_id, log_path } of records) {
        await writeFile(join(hub.stateDir, "runs", run_id, "exit"), "  0\n     ");
        await appendFile(log_path, `${TRACEBACK}:\n`);
      }
      expect((await hub.get(SCRIPTS)).json.runs).toEqual(records);
      await hub.restart(() => rm(join(hub.stateDir, "runs"), { recursive: true }));
      expect((await hub.get(SCRIPTS)).json.runs).toEqual(records);
      for (const record of records) {
        expect(await hub.run(record)).toEqual(record);
        expect((await hub.kill(record)).status).toBe(409);
        expect(await hub.run(record)).toEqual(record);
      }
    });
  });

  describe("status of a run that is alive", () => {
    test("a live run has status running and no end time or exit code", async () => {
      await using hub = await startHub({ deploy });
      const run = await hub.runScript("sleep 600");

      expect(await hub.run(run)).toMatchObject({
        status: "running",
        ended_at: null,
        exit_code: null,
        signal: null,
        status_reason: "The process is alive.",
        pid: expect.stringMatching(/^\d+$/),
      });
    });

    test("a run whose wrapper was killed is running while its command lives, and is never completed", async () => {
      await using hub = await startHub({ deploy });
      const run = await hub.runScript(`kill -KILL $PPID; ${GO}; exit 0`);

      const orphaned = await until(async () => {
        const record = await hub.run(run);
        return record.status_reason.includes("wrapper") ? record : undefined;
      });
      expect(orphaned).toMatchObject({ status: "running", ended_at: null, exit_code: null });
      expect((await hub.get(`${SCRIPTS}?status=running`)).json.runs).toHaveLength(1);

      await writeFile(join(hub.root, "go"), "");
      expect(await hub.ended(run)).toMatchObject({ status: "unknown", exit_code: null });
    });

    test("a run stopped by SIGSTOP is running, also when only its wrapper is stopped", async () => {
      await using hub = await startHub({ deploy });
      const run = await hub.runScript(`${GO}; exit 6`);
      const wrapper = Number(run.pid);
      process.kill(wrapper, "SIGSTOP");

      expect((await hub.run(run)).status).toBe("running");
      await writeFile(join(hub.root, "go"), "");
      // Left are the wrapper and its pump.
      await until(() => processesOf(run.run_id).every(({ pgrp }) => pgrp === wrapper) || undefined);
      expect((await hub.run(run)).status).toBe("running");
      process.kill(wrapper, "SIGCONT");
      expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 6 });
    });
  });

  describe("listing", () => {
    test("the run list filters by the current status of each run", async () => {
      await using hub = await startHub({ deploy });
      const killed = await hub.runScript("sleep 600");
      await hub.kill(killed);
      const runs: Record<string, RunRecord> = {
        completed: await hub.runScript("exit 0"),
        failed: await hub.runScript("exit 1"),
        unknown: await hub.runScript("kill -KILL $PPID $$"),
        running: await hub.runScript("sleep 600"),
        killed,
      };
      for (const [status, run] of Object.entries(runs)) {
        if (status !== "running") await until(() => processesOf(run.run_id).length === 0 || undefined);
      }

      for (const [status, run] of Object.entries(runs)) {
        const { json } = await hub.get(`${SCRIPTS}?status=${status}&limit=`);
        expect(json.runs.map((found: RunRecord) => [found.run_id, found.status])).toEqual([
          [run.run_id, status],
        ]);
        expect(json.next_cursor).toBe(null);
      }
      expect((await hub.get(`${SCRIPTS}?status=&limit=`)).json.runs).toHaveLength(5);
    });

    test("the run list pages newest first through 60 runs, without a loss or a duplicate, while new runs start", async () => {
      await using hub = await startHub({ deploy, recipes: [TRUE] });
      const launched: string[] = [];
      for (let i = 0; i < 60; i++) launched.push(await launchTrue(hub));

      const seen: string[] = [];
      const sizes: number[] = [];
      for (let cursor: string | null = ""; cursor !== null;) {
        const { json } = await hub.get(`${PIPELINES}?limit=25&cursor=${cursor}`);
        seen.push(...json.runs.map((run: RunRecord) => run.run_id));
        sizes.push(json.runs.length);
        cursor = json.next_cursor;
        await launchTrue(hub);
      }
      expect(seen).toEqual(launched.toReversed());
      expect(sizes).toEqual([25, 25, 10]);
      expect((await hub.get(PIPELINES)).json.runs).toHaveLength(50);
      expect((await hub.get(`${PIPELINES}?limit=1`)).json.runs).toHaveLength(1);
      expect((await hub.get(`${PIPELINES}?limit=500`)).json).toMatchObject({ next_cursor: null });
    });

    test("ended runs count against no limit, however fast they follow each other", async () => {
      const one = { ...TRUE, recipe_id: "one", max_running: 1 };
      await using hub = await startHub({ deploy, recipes: [one, TRUE], env: { HUB_MAX_RUNNING: "2" } });
      for (const recipe_id of ["one", "true"]) {
        for (let i = 0; i < 10; i++) {
          const { status, json } = await hub.post(PIPELINES, { recipe_id });
          expect(status, `launch ${i}: ${JSON.stringify(json)}`).toBe(201);
          await until(() => processesOf(json.run_id).length === 0 || undefined);
        }
      }
    });

    test("the run list pages through the runs of one status", async () => {
      await using hub = await startHub({ deploy, recipes: [TRUE] });
      const completed: string[] = [];
      for (let i = 0; i < 7; i++) {
        completed.push(await launchTrue(hub));
        await hub.post(PIPELINES, { recipe_id: "hello", args: String.raw`"Error: \nboom"` });
      }
      await until(
        async () => (await hub.get(`${PIPELINES}?status=running`)).json.runs.length === 0 || undefined,
      );

      const seen: string[] = [];
      for (let cursor: string | null = ""; cursor !== null;) {
        const { json } = await hub.get(`${PIPELINES}?status=completed&limit=3&cursor=${cursor}`);
        seen.push(
          ...json.runs
            .filter((run: RunRecord) => run.cmd === "/bin/true")
            .map((run: RunRecord) => run.run_id),
        );
        cursor = json.next_cursor;
      }
      expect(seen).toEqual(completed.toReversed());
    });

    test("a run of one surface is unknown to the other", async () => {
      await using hub = await startHub({ deploy });
      const script = await hub.runScript("sleep 600");
      const pipeline = (await hub.post(PIPELINES, { recipe_id: "hello" })).json as RunRecord;

      for (const [base, { run_id }] of [
        [PIPELINES, script],
        [SCRIPTS, pipeline],
      ] as const) {
        for (const answer of [
          await hub.get(`${base}/${run_id}`),
          await hub.get(`${base}/${run_id}/logs`),
          await hub.post(`${base}/${run_id}/kill`),
        ]) {
          expect(answer.status).toBe(404);
          expect(answer.json.code).toBe("run_not_found");
        }
        const { json } = await hub.get(base);
        expect(json.runs.map((run: RunRecord) => run.run_id)).not.toContain(run_id);
      }
      expect((await hub.run(script)).status).toBe("running");
    });
  });
}

async function launchTrue(hub: Hub): Promise<string> {
  const { status, json } = await hub.post(PIPELINES, { recipe_id: "true" });
  expect(status, `launched: ${JSON.stringify(json)}`).toBe(201);
  return json.run_id as string;
}
