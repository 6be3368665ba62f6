import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { type Deploy, startHub, until } from "../../support/hub.ts";
import type { Answer } from "../../support/openapi-check.ts";

const PIPELINES = "/api/v1/pipelines/runs";

/** The limits of runs at the same time and of their duration, as every deployment keeps them. */
export function launchLimitsContract(deploy: Deploy): void {
  describe("launch", () => {
    test("a recipe has at most max_running concurrent runs, and starts again as soon as one has ended", async () => {
      await using hub = await startHub({
        deploy,
        recipes: [
          {
            recipe_id: "pair",
            title: "Pair",
            description: "Two at once",
            max_running: 2,
            command: ["/bin/sh", "-c", 'until [ -e "$0" ]; do sleep 0.02; done'],
          },
        ],
      });
      const launch = (go: string) => hub.post(PIPELINES, { recipe_id: "pair", args: join(hub.dir, go) });
      const answers = await Promise.all(["a", "b", "c", "d"].map(launch));
      const started = answers.filter((answer) => answer.status === 201);
      expect(started).toHaveLength(2);
      for (const answer of answers.filter((each) => each.status !== 201)) expectTooMany(answer, "pair");
      expect((await hub.post(PIPELINES, { recipe_id: "hello" })).status).toBe(201);

      const gone = started[0]!.json;
      await writeFile(gone.spec.args, "");
      await until(async () => ((await hasProcess(gone.pid)) ? undefined : true));
      expect((await launch("e")).status, "nobody has asked for the ended run").toBe(201);
    });

    test("HUB_MAX_RUNNING limits all concurrent runs, and a refused launch does not consume its Idempotency-Key", async () => {
      await using hub = await startHub({ deploy, env: { HUB_MAX_RUNNING: "2" } });
      const runs = [await hub.runScript("exec sleep 60"), await hub.runScript("exec sleep 60")];
      const launch = () =>
        hub.post(PIPELINES, { recipe_id: "hello" }, { headers: { "idempotency-key": "k" } });

      expectTooMany(await launch(), "limit of 2 concurrent runs");
      expect((await hub.get(PIPELINES)).json.runs).toEqual([]);

      await hub.kill(runs[0]!, { signal: "SIGKILL" });
      expect((await launch()).status).toBe(201);
    });

    test("a run that exceeds the timeout_seconds of its recipe is stopped, and its record reports it", async () => {
      await using hub = await startHub({
        deploy,
        recipes: [
          {
            recipe_id: "slow",
            title: "Slow",
            description: "Sleeps",
            timeout_seconds: 1,
            command: ["sleep", "60"],
          },
        ],
      });
      const { json } = await hub.post(PIPELINES, { recipe_id: "slow" });
      expect(await hub.ended(json)).toMatchObject({
        status: "failed",
        status_reason: "It ran longer than its recipe's 1 seconds and was sent SIGTERM.",
        exit_code: 143,
        signal: "SIGTERM",
      });
    });
  });
}

function expectTooMany(answer: Answer, what: string): void {
  expect(answer.status).toBe(429);
  expect(answer.json).toMatchObject({ code: "too_many_runs", detail: expect.stringContaining(what) });
  expect(answer.headers.get("retry-after")).toMatch(/^[1-9]\d*$/);
}

async function hasProcess(pid: string): Promise<boolean> {
  const state = await readFile(`/proc/${pid}/stat`, "latin1").catch(() => undefined);
  return state !== undefined && !/\) [ZX] /.test(state);
}
