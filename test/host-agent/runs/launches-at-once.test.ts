import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { expect, onTestFinished, test } from "vitest";

import { startAgent } from "../../../host-agent/agent.ts";
import { parseCallbackHost } from "../../../host-agent/callbacks/callback-rules.ts";
import { ApiProblem } from "../../../host-agent/protocol/problem.ts";
import type { LaunchAnswer, LaunchOrder } from "../../../host-agent/protocol/launch.ts";
import { until } from "../../support/hub.ts";

const LIMIT = 3;

test("concurrent launches start up to the limit, and each launch above it is refused separately", async () => {
  const host = await startHost();
  const outcomes = await Promise.all(["a", "b", "c", "d", "e"].map((token) => host.launch(token, "wait")));

  expect(outcomes.map(summary)).toEqual([...Array(LIMIT).fill("new"), "too_many_runs", "too_many_runs"]);
  await host.release();
  expect(summary(await host.launch("d", "quick"))).toBe("new");
});

test("a launch concurrent with its retries starts one run, and a different request with its key is refused", async () => {
  const host = await startHost();
  const outcomes = await Promise.all([
    host.launch("a", "quick"),
    host.launch("a", "quick"),
    host.launch("a", "another"),
    host.launch("b", "quick"),
  ]);

  expect(outcomes.map(summary)).toEqual(["new", "replayed", "idempotency_key_reused", "new"]);
  expect(runId(outcomes[1])).toBe(runId(outcomes[0]));
  expect(runId(outcomes[3])).not.toBe(runId(outcomes[0]));
  await until(async () => (await host.ledger()).length >= 2 || undefined);
  expect((await host.ledger()).toSorted()).toEqual([runId(outcomes[0]), runId(outcomes[3])].toSorted());
});

test("concurrent launches have separate logs, although their names and seconds are the same", async () => {
  const host = await startHost();
  const outcomes = await Promise.all(["a", "b", "c"].map((token) => host.launch(token, "quick")));

  expect(outcomes.map(summary)).toEqual(["new", "new", "new"]);
  const logs = outcomes.map((outcome) => (outcome as LaunchAnswer).run.log_path);
  expect(new Set(logs).size).toBe(3);
});

test("when the one write for concurrent launches fails, none starts or is recorded, and each can be retried", async () => {
  const host = await startHost();
  host.breakCallbacks();
  const failed = await Promise.all([
    host.launch("a", "quick"),
    host.launch("b", "quick", { callback_url: "https://hooks.example/x" }),
  ]);

  expect(failed.map(summary)).toEqual(["no problem of ours", "no problem of ours"]);
  expect(await host.ledger()).toEqual([]);
  expect(await host.runs()).toEqual([]);
  expect(summary(await host.launch("a", "quick"))).toBe("new");
});

test("a launch that was started but could not be recorded is not answered as if nothing had been started", async () => {
  const host = await startHost();
  host.breakStarts();
  const outcome = await host.launch("a", "wait");
  expect(summary(outcome)).toBe("host_unavailable");
  expect((outcome as ApiProblem).message).toMatch(/^run_[0-9a-f]{12} may have been started/);
  await until(async () => (await host.ledger()).length > 0 || undefined);

  host.mendStarts();
  expect(summary(await host.launch("a", "wait")), "the retry finds it").toBe("replayed");
  await host.release();
  expect(await host.ledger()).toHaveLength(1);
});

/** An agent whose calls are made in one turn of the event loop. */
async function startHost() {
  const dir = await realpath(await mkdtemp(join(tmpdir(), "hub-")));
  const scripts = join(dir, "scripts");
  await mkdir(scripts);
  const path = join(scripts, "job.sh");
  await writeFile(
    path,
    `#!/bin/sh\necho "$HUB_RUN_ID" >>"${dir}/ledger"\n[ "$1" != wait ] || until [ -e "${dir}/go" ]; do sleep 0.02; done\n`,
  );
  await chmod(path, 0o755);
  const agent = await startAgent(
    {
      stateDir: join(dir, "state"),
      scriptRoots: [scripts],
      recipesFile: join(dir, "none.json"),
      maxRunning: LIMIT,
      callbacks: {
        hosts: [parseCallbackHost("hooks.example")!],
        secrets: ["0123456789abcdef0123456789abcdef"],
      },
    },
    { PATH: process.env["PATH"] },
    () => {},
  );
  onTestFinished(async () => {
    await writeFile(join(dir, "go"), "");
    await until(noneAlive);
    await agent.close();
    await rm(dir, { recursive: true });
  });

  async function runs() {
    return (await agent.operations.listRuns({ source: "script", limit: 10 })).runs;
  }
  async function noneAlive(): Promise<true | undefined> {
    return (await runs()).every((run) => run.ended_at !== null) || undefined;
  }

  return {
    runs,
    async launch(
      token: string,
      args: string,
      extra: Partial<LaunchOrder> = {},
    ): Promise<LaunchAnswer | Error> {
      const order = {
        source: "script",
        spec: { path, args },
        key_name: "acme-prod",
        launch_token: sha256(token),
        fingerprint: sha256(args),
        ...extra,
      } as LaunchOrder;
      return agent.operations.launch(order).catch((error: Error) => error);
    },
    /** Those that wait end. */
    async release(): Promise<void> {
      await writeFile(join(dir, "go"), "");
      await until(noneAlive);
    },
    /** From now on a launch with a callback cannot be written. */
    breakCallbacks(): void {
      using db = new DatabaseSync(join(dir, "state", "runs.db"));
      db.exec(
        "CREATE TRIGGER broken BEFORE INSERT ON callbacks BEGIN SELECT RAISE(ABORT, 'broken on purpose'); END",
      );
    },
    /** From now on no start can be written. */
    breakStarts(): void {
      using db = new DatabaseSync(join(dir, "state", "runs.db"));
      db.exec(
        "CREATE TRIGGER unwritable BEFORE UPDATE OF pid ON runs BEGIN SELECT RAISE(ABORT, 'broken on purpose'); END",
      );
    },
    mendStarts(): void {
      using db = new DatabaseSync(join(dir, "state", "runs.db"));
      db.exec("DROP TRIGGER unwritable");
    },
    /** The runs whose command has started, each time. */
    async ledger(): Promise<string[]> {
      const text = await readFile(join(dir, "ledger"), "utf8").catch(() => "");
      return text.split("\n").slice(0, -1);
    },
  };
}

function summary(outcome: LaunchAnswer | Error): string {
  if (outcome instanceof ApiProblem) return outcome.code;
  if (outcome instanceof Error) return "no problem of ours";
  return outcome.replayed ? "replayed" : "new";
}

function runId(outcome: LaunchAnswer | Error | undefined): string {
  return (outcome as LaunchAnswer).run.run_id;
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
