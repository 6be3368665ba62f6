import { execFileSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";

import { describe, expect, test } from "vitest";

import { processesOf } from "../../host-agent/executor/process-tree.ts";
import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { type Hub, startHub, until } from "../support/hub.ts";
import { serverProcesses, type StopSignal } from "../support/server-process.ts";

const SCRIPTS = "/api/v1/scripts/runs";

/** Writes numbered lines until the file $1 exists, then the time, and exits with 9. */
const COUNT_UNTIL = `
i=0
until [ -e "$1" ]; do echo "line $((i += 1))"; sleep 0.01; done
date +ended_at=%s
exit 9`;

/** For tests that start several servers while others do too. */
const LONG = { timeout: 240_000 };
const ENDS: StopSignal[] = ["SIGKILL", "SIGKILL", "SIGTERM", "SIGKILL", "SIGINT", "SIGKILL", "SIGKILL"];

describe("a stop of the server", () => {
  test.concurrent.for<StopSignal>(["SIGKILL", "SIGTERM", "SIGINT"])(
    "by %s loses no run, no log byte, no exit code and no Idempotency-Key",
    LONG,
    async (signal) => {
      const servers = serverProcesses();
      await using hub = await startHub({ deploy: servers.deploy });
      const path = await hub.script("count.sh", COUNT_UNTIL);
      const [goDown, goAfter] = [join(hub.dir, "go-down"), join(hub.dir, "go-after")];
      const down = await launch(hub, path, goDown, "ends while the server is down");
      const after = await launch(hub, path, goAfter, "ends after the restart");
      const killed = await hub.runScript("exec sleep 60");
      await hub.kill(killed);
      const killedRecord = await hub.ended(killed);
      await hasGrown(down);
      await hasGrown(after);

      await servers.end(signal);
      await hasGrown(down);
      await writeFile(goDown, "");
      await until(() => processesOf(down.run_id).length === 0 || undefined);
      const goneAt = Date.now() / 1000;
      const endedAt = Number(/ended_at=(\d+)/.exec(await readFile(down.log_path, "utf8"))?.[1]);
      // The restart must come so late that its own time is no answer.
      await until(() => Date.now() / 1000 > goneAt + 2 || undefined);
      await hub.restart();

      const ended = await hub.run(down);
      expect(ended).toMatchObject({ status: "failed", exit_code: 9, pid: down.pid, cmd: down.cmd });
      // The kernel's clock for files is a few milliseconds behind that of date(1).
      expect(ended.ended_at).toBeGreaterThanOrEqual(endedAt - 1);
      expect(ended.ended_at).toBeLessThanOrEqual(goneAt);
      expectWholeLog(await hub.log(down));
      expect(await hub.run(after)).toEqual(after);
      expect(await hub.run(killed)).toEqual(killedRecord);

      const replay = await hub.post(SCRIPTS, { path, args: goAfter }, withKey("ends after the restart"));
      expect(replay.json).toEqual(after);
      expect(replay.headers.get("idempotent-replayed")).toBe("true");
      await writeFile(goAfter, "");
      expect(await hub.ended(after)).toMatchObject({ status: "failed", exit_code: 9 });
      expectWholeLog(await hub.log(after));
    },
  );

  test.concurrent.for(["SIGTERM", "SIGINT"] as const)(
    "by %s is graceful: the server exits with 0 and prints how many runs go on",
    LONG,
    async (signal) => {
      const servers = serverProcesses();
      await using hub = await startHub({ deploy: servers.deploy });
      const runs = [await hub.runScript("exec sleep 60"), await hub.runScript("exec sleep 60")];
      await hub.ended(await hub.runScript("true"));

      const ended = await servers.end(signal);
      expect(ended).toMatchObject({ code: 0, signal: null });
      expect(ended.output).toContain(`Stopped by ${signal}; 2 runs left running.`);
      for (const run of runs) expect(processesOf(run.run_id)).not.toEqual([]);

      await hub.restart();
      for (const run of runs) {
        expect(await hub.run(run)).toEqual(run);
        await hub.kill(run);
        expect(await hub.ended(run)).toMatchObject({ status: "killed", signal: "SIGTERM" });
      }
      expect((await servers.end(signal)).output).toContain("no runs are alive");
    },
  );

  test(
    "by any signal at any moment of a stream of launches runs each Idempotency-Key exactly once",
    LONG,
    async () => {
      const servers = serverProcesses();
      await using hub = await startHub({ deploy: servers.deploy });
      const ledger = join(hub.dir, "ledger");
      const path = await hub.script("job.sh", `echo "$HUB_RUN_ID $2" >>"$1"`);
      const acknowledged = new Map<string, string>();
      const over = new AbortController();

      /** Launches one key after the other, each until it is acknowledged. */
      async function client(name: string): Promise<void> {
        for (let i = 0; !over.signal.aborted; i++) {
          const key = `${name}-${i}`;
          const answer = await until(async () => {
            const sent = hub.post(SCRIPTS, { path, args: `${ledger} ${key}` }, withKey(key));
            return sent.catch(ignoreBrokenConnection);
          });
          expect(answer.status).toBe(201);
          acknowledged.set(key, answer.json.run_id);
        }
      }

      const clients = ["a", "b", "c"].map(client);
      for (const signal of ENDS) {
        const seen = acknowledged.size;
        await until(() => acknowledged.size > seen || undefined);
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 40));
        await servers.end(signal);
        await hub.restart();
      }
      over.abort();
      await Promise.all(clients);
      const { runs } = (await hub.get(`${SCRIPTS}?limit=500`)).json as { runs: RunRecord[] };
      await Promise.all(runs.map((run) => hub.ended(run)));

      const ran = (await readFile(ledger, "utf8")).trim().split("\n");
      expect(acknowledged.size).toBeGreaterThanOrEqual(ENDS.length);
      expect(ran.toSorted()).toEqual([...acknowledged].map(([key, runId]) => `${runId} ${key}`).toSorted());
      for (const run of runs) {
        const hasRun = ran.some((line) => line.startsWith(run.run_id));
        expect(await hub.run(run)).toMatchObject(
          hasRun ? { status: "completed" } : { status: "failed", status_reason: INTERRUPTED },
        );
      }
    },
  );
});

const INTERRUPTED = "Launch interrupted: the host-agent stopped before the command was started.";

describe("a server in its own process", () => {
  test("names logs in its local time, and gives its secrets to no run", async () => {
    const servers = serverProcesses();
    const secret = "secret-of-the-server";
    await using hub = await startHub({
      deploy: servers.deploy,
      env: {
        TZ: "Asia/Kathmandu",
        HUB_AGENT_KEY: secret,
        CLOUDFLARE_API_TOKEN: secret,
        npm_config_x: secret,
      },
    });
    const run = await hub.runScript("env");
    const moment = execFileSync("date", ["-d", `@${run.started_at}`, "+%Y%m%d_%H%M%S"], {
      env: { TZ: "Asia/Kathmandu", PATH: hub.env.PATH },
      encoding: "utf8",
    });
    expect(basename(run.log_path)).toContain(`__${moment.trim()}.log`);
    await hub.ended(run);
    const log = await hub.log(run);
    expect(log).toContain("TZ=Asia/Kathmandu\n");
    expect(log).not.toContain(secret);
  });
});

/** A killed server breaks its connections, and refuses new ones until it is back. */
function ignoreBrokenConnection(error: unknown): undefined {
  if (!(error instanceof TypeError)) throw error;
}

async function launch(hub: Hub, path: string, args: string, key: string): Promise<RunRecord> {
  const { status, json } = await hub.post(SCRIPTS, { path, args }, withKey(key));
  expect(status).toBe(201);
  return json;
}

function withKey(key: string) {
  return { headers: { "idempotency-key": key } };
}

/** Waits until the run has written more lines than it had. */
async function hasGrown({ log_path }: RunRecord): Promise<void> {
  const before = (await readFile(log_path)).length;
  await until(async () => (await readFile(log_path)).length > before || undefined);
}

function expectWholeLog(log: string): void {
  const lines = log.trimEnd().split("\n");
  expect(lines.pop()).toMatch(/^ended_at=\d+$/);
  expect(lines).toEqual(lines.map((_, index) => `line ${index + 1}`));
}
