import { readFile } from "node:fs/promises";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";

import { describe, expect, test } from "vitest";

import { hasEnded, readStat } from "../../../host-agent/executor/process-identity.ts";
import { commandLine, processesOf } from "../../../host-agent/executor/process-tree.ts";
import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { ALL, type Deploy, type Hub, OTHER, sharedHub, startHub, until } from "../../support/hub.ts";

const SCRIPTS = "/api/v1/scripts/runs";

/** A shell loop that no signal but its own handlers and SIGKILL ends. */
const LOOP = "while :; do sleep 0.02; done";
const COUNT_SIGNALS = `
  trap 'term=$((term + 1)); echo "term $term"' TERM
  trap 'echo barrier' USR1
  echo "pid $$"; ${LOOP}`;

/** Stopping runs, as every deployment does it. */
export function killContract(deploy: Deploy): void {
  describe("kill", () => {
    const shared = sharedHub({ deploy });

    test("a kill ends the whole process tree: background jobs, daemons, other groups and sessions, cleaned environments", async () => {
      const hub = shared();
      const member = `sh -c 'echo $$ >>"$0"; exec sleep 600' "$PWD/pids"`;
      const run = await hub.runScript(`
        ${member} &
        setsid ${member} &
        setsid sh -c '(setsid "$@" &) ; exit' sh ${member}
        env -i PATH="$PATH" ${member} &
        env -i PATH="$PATH" setsid ${member} &
        set -m; ${member} & set +m
        (${member} | ${member}) &
        echo $$ >>pids
        wait`);
      const pids = await until(async () => {
        const lines = (await readFile(join(hub.root, "pids"), "utf8").catch(() => "")).split("\n");
        return lines.length > 9 ? lines.slice(0, -1).map(Number) : undefined;
      });
      expect(pids.filter(isLiving)).toHaveLength(9);

      const { status, json } = await hub.kill(run);
      expect(status).toBe(200);
      expect(json).toMatchObject({ status: "killed" });
      const ended = await hub.ended(run);
      expect(ended).toMatchObject({
        status: "killed",
        exit_code: 143,
        signal: "SIGTERM",
        status_reason: `/kill by ${ALL.name} sent SIGTERM.`,
      });
      expect([...pids, Number(run.pid)].filter(isLiving)).toEqual([]);
    });

    test("a run that ignores SIGTERM has status killed but has not ended until the grace period sends SIGKILL", async () => {
      await using hub = await startHub({ deploy });
      const run = await hub.runScript(`trap '' TERM; echo ready; ${LOOP}`);
      await said(hub, run, "ready");

      expect((await hub.kill(run)).json).toMatchObject({ status: "killed", ended_at: null, exit_code: null });
      expect(await hub.run(run)).toMatchObject({ status: "killed", ended_at: null });
      expect((await hub.get(`${SCRIPTS}?status=running`)).json.runs).toEqual([]);
      expect(processesOf(run.run_id)).not.toEqual([]);

      expect((await hub.kill(run, { grace_seconds: 0 })).json).toMatchObject({ status: "killed" });
      const ended = await hub.ended(run);
      expect(ended).toMatchObject({ status: "killed", exit_code: 137, signal: "SIGKILL" });
      expect(ended.status_reason).toMatch(/sent SIGTERM, then SIGKILL after the grace period/);
      expect(processesOf(run.run_id)).toEqual([]);
    });

    test("a run that ends within the grace period of its kill gets no SIGKILL", async () => {
      const hub = shared();
      const run = await hub.runScript(`trap 'exit 3' TERM; echo ready; ${LOOP}`);
      await said(hub, run, "ready");

      await hub.kill(run, { grace_seconds: 600 });
      const ended = await hub.ended(run);
      expect(ended).toMatchObject({ status: "killed", exit_code: 3, signal: null });
      expect(ended.status_reason).not.toContain("SIGKILL");
    });

    test("after the grace period only processes that ignored the signal get SIGKILL, children included", async () => {
      const hub = shared();
      const run = await hub.runScript(`(trap '' TERM; exec sleep 600) & echo ready; wait`);
      await said(hub, run, "ready");

      await hub.kill(run, { grace_seconds: 1 });
      expect(await hub.ended(run)).toMatchObject({ status: "killed", exit_code: 143 });
      expect(processesOf(run.run_id)).toEqual([]);
    });

    test("a repeated kill sends no second signal, also when it adds a grace period", async () => {
      const hub = shared();
      const run = await hub.runScript(COUNT_SIGNALS);
      const pid = Number((await said(hub, run, /pid (\d+)/))[1]);

      const kills = await Promise.all(Array.from({ length: 5 }, () => hub.kill(run)));
      expect(kills.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
      await said(hub, run, "term 1");
      for (const order of [
        undefined,
        {},
        { signal: "SIGTERM" },
        { signal: "SIGINT" },
        { grace_seconds: 600 },
      ]) {
        const again = await hub.kill(run, order);
        expect(again.status).toBe(200);
        expect(again.json).toMatchObject({ status: "killed", ended_at: null });
      }
      await passBarrier(hub, run, pid);
      expect((await hub.log(run)).match(/term/g)).toHaveLength(1);

      expect((await hub.kill(run, { signal: "SIGKILL" })).status).toBe(200);
      expect(await hub.ended(run)).toMatchObject({ status: "killed", exit_code: 137, signal: "SIGKILL" });
      expect((await hub.kill(run)).json).toMatchObject({ status: "killed" });
    });

    test("SIGKILL ends all processes at once and records exit code 137", async () => {
      const hub = shared();
      const run = await hub.runScript(`trap '' TERM INT; setsid sleep 600 & echo ready; ${LOOP}`);
      await said(hub, run, "ready");

      const { json } = await hub.kill(run, { signal: "SIGKILL" });
      expect(json).toMatchObject({ status: "killed", exit_code: 137, signal: "SIGKILL" });
      expect(json.ended_at).not.toBe(null);
      expect(processesOf(run.run_id)).toEqual([]);
    });

    test("SIGINT reaches the command, and the record has the exit code of the command", async () => {
      const hub = shared();
      const run = await hub.runScript(`trap 'echo interrupted; exit 7' INT; echo ready; ${LOOP}`);
      await said(hub, run, "ready");

      await hub.kill(run, { signal: "SIGINT" });
      expect(await hub.ended(run)).toMatchObject({ status: "killed", exit_code: 7, signal: null });
      expect(await hub.log(run)).toMatch(/interrupted\n$/);
    });

    test("the output of a SIGTERM handler is in the log and its exit code is in the record", async () => {
      const hub = shared();
      const run = await hub.runScript(
        `trap 'echo cleaning up; sleep 0.2; echo "bye"; exit 42' TERM; echo ready; ${LOOP}`,
      );
      await said(hub, run, "ready");

      expect((await hub.kill(run)).json).toMatchObject({ status: "killed" });
      expect(await hub.ended(run)).toMatchObject({ status: "killed", exit_code: 42 });
      expect(await hub.log(run)).toMatch(/cleaning up\nbye\n$/);
    });

    test("a kill continues a job stopped by SIGSTOP, so that it ends", async () => {
      const hub = shared();
      const run = await hub.runScript("setsid sleep 600 & wait");
      const members = await until(() => {
        const found = processesOf(run.run_id).map((stat) => stat.pid);
        return found.some((pid) => commandLine(pid).startsWith("sleep\0")) ? found : undefined;
      });
      for (const pid of members) process.kill(pid, "SIGSTOP");

      await hub.kill(run);
      expect(await hub.ended(run)).toMatchObject({ status: "killed", exit_code: 143 });
      expect(processesOf(run.run_id)).toEqual([]);
    });

    test("a kill of a run that ended by itself is refused and signals no process that the run left", async () => {
      const hub = shared();
      const run = await hub.runScript("sleep 600 & exit 0");
      const ended = await hub.ended(run);

      for (const order of [undefined, { signal: "SIGKILL" }, { grace_seconds: 0 }]) {
        const refused = await hub.kill(run, order);
        expect(refused.status).toBe(409);
        expect(refused.json).toMatchObject({ code: "run_ended" });
      }
      expect(await hub.run(run)).toEqual(ended);
      expect(processesOf(run.run_id).filter(({ pgrp }) => String(pgrp) !== run.pid)).toHaveLength(1);
    });

    test("when a kill races with the end of the run, the answer and the record agree and never change", async () => {
      const hub = shared();
      const path = await hub.script("short.sh", "exit 0");
      const oneRace = async (delayMs: number) => {
        const run = (await hub.post(SCRIPTS, { path })).json as RunRecord;
        await sleep(delayMs);
        const { status } = await hub.kill(run);
        expect([200, 409]).toContain(status);
        const ended = await hub.ended(run);
        expect(ended.status).toBe(status === 200 ? "killed" : "completed");
        expect((await hub.kill(run)).status).toBe(status);
        expect(await hub.run(run)).toEqual(ended);
        expect((await hub.get(`${SCRIPTS}?status=${ended.status}&limit=20`)).json.runs).toContainEqual(ended);
      };
      for (let round = 0; round < 20; round += 3) {
        await Promise.all([oneRace(round), oneRace(round / 2), oneRace(round / 4), oneRace(0)]);
      }
    });

    test("a run can be killed while it is being launched", async () => {
      await using hub = await startHub({ deploy });
      const path = await hub.script("long.sh", "sleep 600");
      for (let round = 0; round < 4; round++) {
        const launched = hub.post(SCRIPTS, { path });
        const early = await until(async () => {
          const { json } = await hub.get(`${SCRIPTS}?limit=1&status=running`);
          return json.runs[0] as RunRecord | undefined;
        });

        expect((await hub.kill(early)).json).toMatchObject({ status: "killed" });
        expect((await launched).json.run_id).toBe(early.run_id);
        expect((await hub.ended(early)).status).toBe("killed");
        expect(processesOf(early.run_id)).toEqual([]);
      }
    });

    test("a kill and its grace period survive a restart", async () => {
      await using hub = await startHub({ deploy });
      const run = await hub.runScript(`trap '' TERM; echo ready; ${LOOP}`);
      await said(hub, run, "ready");
      await hub.kill(run, { grace_seconds: 1 });

      await hub.restart();
      expect(await hub.ended(run)).toMatchObject({ status: "killed", exit_code: 137 });
    });

    test("the record names the API key that killed the run", async () => {
      const hub = shared();
      const run = await hub.runScript("sleep 600");

      await hub.post(`${SCRIPTS}/${run.run_id}/kill`, undefined, { key: OTHER.key });
      const ended = await hub.ended(run);
      expect(ended.key_name).toBe(ALL.name);
      expect(ended.status_reason).toBe(`/kill by ${OTHER.name} sent SIGTERM.`);
    });

    test("no GET or HEAD changes anything", async () => {
      const hub = shared();
      const run = await hub.runScript("setsid sleep 600 & sleep 600");
      const members = await until(() => {
        const found = processesOf(run.run_id);
        const sleeps = found.filter(({ pid }) => commandLine(pid).startsWith("sleep\0"));
        return sleeps.length === 2 ? found : undefined;
      });

      for (const method of ["GET", "HEAD"]) {
        for (const tail of [
          "",
          "/logs",
          "/kill",
          "/abort",
          "/stop",
          "/kill?signal=SIGKILL",
          "/logs?wait=1",
        ]) {
          await hub.ask(method, `${SCRIPTS}/${run.run_id}${tail}`);
        }
        for (const path of [SCRIPTS, `${SCRIPTS}?status=running`, "/api/v1/scripts", "/healthz"]) {
          await hub.ask(method, path);
        }
      }
      expect((await hub.ask("GET", `${SCRIPTS}/${run.run_id}/kill`)).status).toBe(405);
      expect(processesOf(run.run_id).map(({ pid, startTime }) => [pid, startTime])).toEqual(
        members.map(({ pid, startTime }) => [pid, startTime]),
      );
      expect((await hub.run(run)).status).toBe("running");
    });

    test.for([
      ["a shell", false],
      ["a shell", true],
      ["python", false],
      ["python", true],
      ["node", false],
      ["node", true],
    ] as const)("%s program sees exactly one SIGINT (terminal: %s)", async ([language, terminal]) => {
      const hub = shared();
      const run = await hub.runScript(INTERRUPTIBLE[language], { terminal });
      const pid = Number((await said(hub, run, /pid (\d+)/))[1]);

      await hub.kill(run, { signal: "SIGINT" });
      await said(hub, run, "interrupt");
      await passBarrier(hub, run, pid);
      expect((await hub.log(run)).match(/interrupt/g)).toHaveLength(1);
      await hub.kill(run, { signal: "SIGKILL" });
      expect(await hub.ended(run)).toMatchObject({ status: "killed", exit_code: 137 });
    });

    test("a process that reuses the pid of an ended run is not signalled", async () => {
      await using hub = await startHub({ deploy });
      const stranger = spawn("sleep", ["600"], { stdio: "ignore", detached: true });
      try {
        const run = await hub.runScript("sleep 600");
        await hub.restart(async () => {
          await until(() => {
            const left = processesOf(run.run_id);
            for (const { pid } of left) process.kill(pid, "SIGKILL");
            return left.length === 0 || undefined;
          });
          using db = new DatabaseSync(join(hub.stateDir, "runs.db"));
          db.prepare("UPDATE runs SET pid = ?, pid_start = '1', ended_at = NULL, status = 'running'").run(
            stranger.pid!,
          );
        });

        expect(await hub.run(run)).toMatchObject({ status: "unknown", exit_code: null });
        expect((await hub.kill(run, { signal: "SIGKILL" })).status).toBe(409);
        expect(isLiving(stranger.pid!)).toBe(true);
      } finally {
        stranger.kill("SIGKILL");
      }
    });

    test("a kill of a live run whose recorded pid was reused signals only the run", async () => {
      await using hub = await startHub({ deploy });
      const stranger = spawn("sleep", ["600"], { stdio: "ignore", detached: true });
      try {
        const run = await hub.runScript("sleep 600");
        await hub.restart(() => {
          using db = new DatabaseSync(join(hub.stateDir, "runs.db"));
          // Another start time than the stranger's, which may well be that of the run itself: clock ticks are 10 ms.
          db.prepare("UPDATE runs SET pid = ?, pid_start = '1'").run(stranger.pid!);
        });

        expect((await hub.kill(run)).json).toMatchObject({ status: "killed" });
        expect((await hub.ended(run)).status).toBe("killed");
        expect(isLiving(stranger.pid!)).toBe(true);
      } finally {
        stranger.kill("SIGKILL");
      }
    });

    test("a kill does not affect other runs of the same script", async () => {
      const hub = shared();
      const path = await hub.script("twin.sh", "sleep 600");
      const [one, two] = await Promise.all([hub.post(SCRIPTS, { path }), hub.post(SCRIPTS, { path })]);

      await hub.kill(one.json);
      await hub.ended(one.json);
      expect((await hub.run(two.json)).status).toBe("running");
      expect(processesOf(two.json.run_id)).not.toEqual([]);
    });
  });
}

/** Programs that tell their pid, each SIGINT and each SIGUSR1, and go on. */
const INTERRUPTIBLE = {
  "a shell": `trap 'echo interrupt' INT; trap 'echo barrier' USR1; echo "pid $$"; ${LOOP}`,
  python: `python3 -c '
import os, signal, time
signal.signal(signal.SIGINT, lambda *_: print("interrupt"))
signal.signal(signal.SIGUSR1, lambda *_: print("barrier"))
print("pid", os.getpid())
while True: time.sleep(0.02)'`,
  node: `'${process.execPath}' -e '
process.on("SIGINT", () => console.log("interrupt"));
process.on("SIGUSR1", () => console.log("barrier"));
console.log("pid", process.pid);
setInterval(() => {}, 1000)'`,
};

/** Waits until the log has it. */
async function said(hub: Hub, run: RunRecord, what: string | RegExp): Promise<RegExpExecArray> {
  const pattern = typeof what === "string" ? new RegExp(what) : what;
  return until(async () => pattern.exec(await hub.log(run)) ?? undefined);
}

/** Two round trips by SIGUSR1: a signal that was sent before has been handled by then. */
async function passBarrier(hub: Hub, run: RunRecord, pid: number): Promise<void> {
  for (const text of [/barrier/, /barrier[^]*barrier/]) {
    process.kill(pid, "SIGUSR1");
    await said(hub, run, text);
  }
}

function isLiving(pid: number): boolean {
  const stat = readStat(pid);
  return stat !== undefined && !hasEnded(stat);
}
