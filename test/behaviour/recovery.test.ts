import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { identify, type ProcessIdentity } from "../../host-agent/executor/process-identity.ts";
import { processesOf } from "../../host-agent/executor/process-tree.ts";
import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { type Hub, startHub, until } from "../support/hub.ts";
import { copyRow, killedRow, launchingRow, RUNNING_ROW, rewriteRow } from "../support/runs.ts";

const SCRIPTS = "/api/v1/scripts/runs";
const INTERRUPTED = "Launch interrupted: the host-agent stopped before the command was started.";
const RUN_SH = join(import.meta.dirname, "..", "..", "host-agent", "executor", "run.sh");
const OTHER_BOOT = "00000000-0000-4000-8000-000000000000";

describe("an interrupted launch", () => {
  test.for<[string, (hub: Hub, run: RunRecord) => Promise<void>]>([
    ["before its folder was made", (hub, run) => rm(folder(hub, run), { recursive: true })],
    ["before its wrapper had claimed it", (hub, run) => rm(join(folder(hub, run), "started"))],
    [
      "and was claimed by an agent that then died too",
      (hub, run) => writeFile(join(folder(hub, run), "started"), "agent\n"),
    ],
    [
      "while its wrapper, since gone, was claiming it",
      (hub, run) => truncate(join(folder(hub, run), "started")),
    ],
  ])("%s has failed, and its Idempotency-Key starts a new run", async ([, breakOff]) => {
    await using hub = await startHub({ env: { HUB_KV: "memory:" } });
    const { run, launch } = await launchWithKey(hub, "true");
    await hub.ended(run);
    await hub.restart(async () => {
      await writeFile(join(folder(hub, run), "exit"), " ".repeat(8));
      await breakOff(hub, run);
      rewriteRow(hub.stateDir, run.run_id, launchingRow());
    });

    const failed = await hub.run(run);
    expect(failed).toMatchObject({
      status: "failed",
      status_reason: INTERRUPTED,
      pid: null,
      exit_code: null,
    });
    expect(failed.ended_at).not.toBeNull();
    const again = await launch();
    expect(again.headers.get("idempotent-replayed")).toBeNull();
    expect(again.json.run_id).not.toBe(run.run_id);
    expect(await hub.ended(again.json)).toMatchObject({ status: "completed" });
    expect(await hub.run(run)).toEqual(failed);
  });

  test.for<[string, (started: string) => Promise<void>]>([
    ["whose wrapper runs", async () => {}],
    ["whose wrapper has not written its pid yet", (started) => truncate(started)],
  ])(
    "%s is adopted: the run goes on, ends with its exit code, and its Idempotency-Key replays it",
    async ([, change]) => {
      await using hub = await startHub({ env: { HUB_KV: "memory:" } });
      const go = join(hub.dir, "go");
      const { run, launch } = await launchWithKey(hub, `until [ -e ${go} ]; do sleep 0.02; done; exit 9`);
      await hub.restart(async () => {
        await change(join(folder(hub, run), "started"));
        rewriteRow(hub.stateDir, run.run_id, launchingRow());
      });

      const adopted = await hub.run(run);
      expect(adopted).toMatchObject({ status: "running", status_reason: "The process is alive." });
      expect(processesOf(run.run_id).map(({ pid }) => String(pid))).toContain(adopted.pid);
      const again = await launch();
      expect(again.headers.get("idempotent-replayed")).toBe("true");
      expect(again.json.run_id).toBe(run.run_id);
      await writeFile(go, "");
      expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 9 });
    },
  );

  test("whose command has ended since then has its exit code and end time", async () => {
    await using hub = await startHub({ env: { HUB_KV: "memory:" } });
    const { run, launch } = await launchWithKey(hub, "exit 9");
    const ended = await hub.ended(run);
    await hub.restart(() => rewriteRow(hub.stateDir, run.run_id, launchingRow()));
    expect(await hub.run(run)).toEqual(ended);
    expect((await launch()).json.run_id).toBe(run.run_id);
  });

  test("that may have run before a power cut is unknown, and its Idempotency-Key never starts it again", async () => {
    await using hub = await startHub({ env: { HUB_KV: "memory:" } });
    const { run, launch } = await launchWithKey(hub, "true");
    await hub.ended(run);
    await hub.restart(async () => {
      await truncate(join(folder(hub, run), "started"));
      await truncate(join(folder(hub, run), "exit"));
      rewriteRow(hub.stateDir, run.run_id, launchingRow({ bootId: OTHER_BOOT }));
    });
    expect(await hub.run(run)).toMatchObject({ status: "unknown", exit_code: null });
    const again = await launch();
    expect(again.headers.get("idempotent-replayed")).toBe("true");
    expect(again.json.run_id).toBe(run.run_id);
  });

  test("is not touched while the agent that launches it is alive", async () => {
    await using hub = await startHub({ env: { HUB_KV: "memory:" } });
    await using other = await startBystander();
    const { run } = await launchWithKey(hub, "true");
    await hub.ended(run);
    await hub.restart(async () => {
      await rm(folder(hub, run), { recursive: true });
      rewriteRow(hub.stateDir, run.run_id, { ...launchingRow(), launcher: JSON.stringify(other.identity) });
    });
    expect(await hub.run(run)).toMatchObject({ status: "running", ended_at: null, pid: null });
    expect((await hub.get(`${SCRIPTS}?status=running`)).json.runs).toHaveLength(1);
    await other.end();
    expect(await hub.run(run)).toMatchObject({ status: "failed", status_reason: INTERRUPTED });
  });
});

describe("a run whose process has gone", () => {
  test("after a restart of the host is unknown, or failed if its log shows an error", async () => {
    await using hub = await startHub();
    const silent = await hub.runScript("true");
    const loud = await hub.runScript("echo 'ValueError: no such column'");
    for (const run of [silent, loud]) await hub.ended(run);
    await hub.restart(async () => {
      for (const run of [silent, loud]) {
        await writeFile(join(folder(hub, run), "exit"), " ".repeat(8));
        rewriteRow(hub.stateDir, run.run_id, { ...RUNNING_ROW, boot_id: OTHER_BOOT });
      }
    });
    expect(await hub.run(silent)).toMatchObject({
      status: "unknown",
      status_reason: expect.stringContaining("The host was restarted while it ran"),
      exit_code: null,
    });
    expect(await hub.run(loud)).toMatchObject({
      status: "failed",
      status_reason: expect.stringContaining("ValueError: no such column"),
      exit_code: null,
    });
  });

  test.for([
    ["SIGTERM", "started at another time"],
    ["SIGINT", "started at another time"],
    ["SIGKILL", "started at another time"],
    ["SIGTERM", "belongs to another boot"],
    ["SIGKILL", "belongs to another boot"],
  ] as const)("sends no %s to the process with its pid that %s", async ([signal, difference]) => {
    await using hub = await startHub();
    await using bystander = await startBystander();
    const ended = await hub.ended(await hub.runScript("true"));
    const { pid, bootId, startTime } = bystander.identity;
    const other =
      difference === "belongs to another boot"
        ? { pid_start: startTime, boot_id: OTHER_BOOT }
        : { pid_start: String(Number(startTime) - 1), boot_id: bootId };
    // While the agent runs, so that the kill itself may be the first to look at it. The agent may remember the one that has ended.
    const run = { ...ended, run_id: "run_0123456789ab" };
    await cp(folder(hub, ended), folder(hub, run), { recursive: true });
    await writeFile(join(folder(hub, run), "exit"), " ".repeat(8));
    copyRow(hub.stateDir, ended.run_id, run.run_id, { ...RUNNING_ROW, pid, ...other });

    const answer = await hub.kill(run, { signal, grace_seconds: 0 });
    expect(answer.status).toBe(409);
    expect(answer.json).toMatchObject({ code: "run_ended" });
    expect(await hub.run(run)).toMatchObject({ status: "unknown", signal: null });
    expect(await bystander.caught()).toBe("");
  });

  test("before its wrapper started the command has failed, and its record reports it", async () => {
    await using hub = await startHub();
    const runs = [await hub.runScript("true"), await hub.runScript("true")];
    for (const run of runs) await hub.ended(run);
    await hub.restart(async () => {
      for (const run of runs) {
        await writeFile(join(folder(hub, run), "exit"), " ".repeat(8));
        rewriteRow(hub.stateDir, run.run_id, RUNNING_ROW);
      }
      await rm(join(folder(hub, runs[0]!), "started"));
      await truncate(join(folder(hub, runs[1]!), "started"));
    });
    for (const run of runs) {
      expect(await hub.run(run)).toMatchObject({
        status: "failed",
        status_reason: expect.stringContaining("never started"),
        exit_code: null,
      });
    }
  });

  test("by the signal of a kill that a dying agent could not record is killed", async () => {
    await using hub = await startHub();
    const [stopped, other] = [await hub.runScript("kill -TERM $$"), await hub.runScript("exit 3")];
    for (const run of [stopped, other]) await hub.ended(run);
    await hub.restart(() => {
      for (const run of [stopped, other]) {
        rewriteRow(hub.stateDir, run.run_id, killedRow("SIGTERM", "acme-prod"));
      }
    });
    expect(await hub.run(stopped)).toMatchObject({
      status: "killed",
      exit_code: 143,
      status_reason: "/kill by acme-prod sent SIGTERM.",
    });
    expect(await hub.run(other)).toMatchObject({ status: "failed", exit_code: 3 });
  });

  test("by the signal of a kill that a dying agent had not sent to all of it ends once the rest has received it", async () => {
    await using hub = await startHub();
    const file = join(hub.dir, "daemon");
    const run = await hub.runScript(
      `setsid sh -c 'echo $$ >${file}; exec sleep 600' & until [ -s ${file} ]; do sleep 0.02; done; kill -TERM $$`,
    );
    expect(await hub.ended(run)).toMatchObject({ exit_code: 143 });
    await hub.restart(() => rewriteRow(hub.stateDir, run.run_id, killedRow("SIGTERM", "acme-prod")));
    expect(await hub.ended(run)).toMatchObject({
      status: "killed",
      exit_code: 143,
      status_reason: "/kill by acme-prod sent SIGTERM.",
    });
    expect(processesOf(run.run_id)).toEqual([]);
  });

  test("and that left half an exit record is unknown", async () => {
    await using hub = await startHub();
    const run = await hub.runScript("exit 12");
    await hub.ended(run);
    await hub.restart(async () => {
      await writeFile(join(folder(hub, run), "exit"), " 1");
      rewriteRow(hub.stateDir, run.run_id, RUNNING_ROW);
    });
    expect(await hub.run(run)).toMatchObject({ status: "unknown", exit_code: null });
  });
});

describe("a live run", () => {
  test("is running while its exit record is half-written", async () => {
    await using hub = await startHub();
    const go = join(hub.dir, "go");
    const run = await hub.runScript(`until [ -e ${go} ]; do sleep 0.02; done; exit 12`);
    for (const half of ["", " ", " 1", " 12"]) {
      await writeFile(join(folder(hub, run), "exit"), half);
      expect(await hub.run(run)).toEqual(run);
    }
    await writeFile(go, "");
    expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 12 });
  });

  test("is running, has its log and can be killed although its folder is gone", async () => {
    await using hub = await startHub();
    const [stays, stopped] = [await hub.runScript("echo on; sleep 60"), await hub.runScript("sleep 60")];
    await until(async () => ((await hub.log(stays)) === "on\n" ? true : undefined));
    await hub.restart(async () => {
      for (const run of [stays, stopped]) await rm(folder(hub, run), { recursive: true });
    });
    expect(await hub.run(stays)).toEqual(stays);
    expect(await hub.log(stays)).toBe("on\n");
    await hub.kill(stopped);
    expect(await hub.ended(stopped)).toMatchObject({ status: "killed", exit_code: null, signal: "SIGTERM" });
    for (const { pid } of processesOf(stays.run_id)) {
      if (String(pid) !== stays.pid) process.kill(pid, "SIGKILL");
    }
    const ended = await hub.ended(stays);
    expect(ended).toMatchObject({ exit_code: null });
    expect(["unknown", "failed"], "never a made up success").toContain(ended.status);
    expect(await hub.log(stays)).not.toContain(hub.stateDir);
  });

  test("and an ended one keep their records when every run folder is gone", async () => {
    await using hub = await startHub();
    const runs = [await hub.runScript("true"), await hub.runScript("exit 9")];
    const ended = await Promise.all(runs.map((run) => hub.ended(run)));
    await hub.restart(() => rm(join(hub.stateDir, "runs"), { recursive: true }));
    expect(await Promise.all(runs.map((run) => hub.run(run)))).toEqual(ended);
    expect(await hub.ended(await hub.runScript("true"))).toMatchObject({ status: "completed" });
  });
});

describe("the wrapper", () => {
  test("starts nothing once the run is claimed, and only one of many wrappers starts the command", async () => {
    const dir = await mkdtemp(join(tmpdir(), "run-"));
    const marker = join(dir, "marker");
    const wrap = async (): Promise<unknown> => {
      const command = ["/bin/sh", "-c", `echo ran >>${marker}; exit 9`];
      const child = spawn("/bin/sh", [RUN_SH, dir, ...command], { stdio: "ignore" });
      return (await once(child, "exit"))[0];
    };
    const codes = await Promise.all(Array.from({ length: 8 }, wrap));
    expect(codes.filter((code) => code === 9)).toHaveLength(1);
    expect(codes.filter((code) => code === 75)).toHaveLength(codes.length - 1);
    expect(await readFile(marker, "utf8")).toBe("ran\n");

    await writeFile(join(dir, "started"), "agent\n");
    expect(await wrap()).toBe(75);
    expect(await readFile(marker, "utf8")).toBe("ran\n");
    await rm(dir, { recursive: true });
  });
});

/** Launches a script that does `text`, with an Idempotency-Key; `launch` sends the same request again. */
async function launchWithKey(hub: Hub, text: string) {
  const path = await hub.script("job.sh", text);
  const launch = () => hub.post(SCRIPTS, { path }, { headers: { "idempotency-key": "k" } });
  const { status, json } = await launch();
  expect(status).toBe(201);
  return { run: json as RunRecord, launch };
}

function folder(hub: Hub, run: RunRecord): string {
  return join(hub.stateDir, "runs", run.run_id);
}

/** Changes a run in the agent's store while no agent has it open. */
/** A process that is not a run: it leads its own group and writes down each signal it gets. */
async function startBystander() {
  const child = spawn(
    "/bin/sh",
    [
      "-c",
      'for s in TERM INT CONT HUP USR1; do trap "echo $s" $s; done; echo ready; while :; do sleep 0.05; done',
    ],
    { detached: true, stdio: ["ignore", "pipe", "ignore"], env: { PATH: process.env["PATH"] } },
  );
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  await until(() => output.includes("ready") || undefined);
  const identity: ProcessIdentity = identify(child.pid!)!;
  async function end(): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    process.kill(-identity.pid, "SIGKILL");
    await exited;
  }
  return {
    identity,
    end,
    /** The signals it has got up to now, but for the one that asks. */
    async caught(): Promise<string> {
      process.kill(identity.pid, "SIGUSR1");
      await until(() => output.includes("USR1") || undefined);
      return output.replace(/ready\n|USR1\n/g, "");
    },
    [Symbol.asyncDispose]: end,
  };
}
