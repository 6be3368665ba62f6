import { existsSync, readFileSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { commandLine, processesOf } from "../../../host-agent/executor/process-tree.ts";
import { findErrorLine } from "../../../host-agent/runs/outcome.ts";
import { DEFAULT_ERROR_MARKERS } from "../../../host-agent/catalogue/error-markers.ts";
import { nodeEmbedded, startHub, until } from "../../support/hub.ts";
import { startAgentProcess } from "../../support/deployments.ts";
import { serverProcess } from "../../support/server-process.ts";

const RUNS = "/api/v1/scripts/runs";

describe("a hostile job that runs as the user of the service", () => {
  test("can write a false exit code for itself, and the record shows it", async () => {
    await using hub = await startHub();
    const run = await hub.runScript(
      `printf '  0\\n' 1<>"${hub.stateDir}/runs/$HUB_RUN_ID/exit"; exec sleep 60`,
    );
    expect(await hub.ended(run)).toMatchObject({ status: "completed", exit_code: 0 });
    expect(
      processesOf(run.run_id),
      "it lies: it lives on, and can no more be killed by the API",
    ).not.toHaveLength(0);
    expect((await hub.kill(run)).status).toBe(409);
  });

  test("can hide a daemon from a kill with a separate session, environment, limit of file locks and parent", async () => {
    await using hub = await startHub();
    const pidFile = join(hub.dir, "daemon");
    const run = await hub.runScript(
      `(setsid env -i /bin/sh -c 'ulimit -S -w unlimited; echo $$ >"${pidFile}"; exec sleep 60' &) ; until test -s "${pidFile}"; do sleep 0.02; done; sleep 60`,
    );
    const pid = await until(
      () => (existsSync(pidFile) && Number(readFileSync(pidFile, "utf8"))) || undefined,
    );
    try {
      await until(async () => (await isOrphan(pid)) || undefined);
      await hub.kill(run, { signal: "SIGKILL" });
      expect((await hub.ended(run)).status).toBe("killed");
      expect(existsSync(`/proc/${pid}`), "only a cgroup or a separate user would contain it").toBe(true);
    } finally {
      process.kill(pid, "SIGKILL");
    }
  });

  test("that uses the id of another run is killed with that run, and harms no other", async () => {
    await using hub = await startHub();
    const victim = await hub.runScript("sleep 60");
    const forger = await hub.runScript(
      `HUB_RUN_ID=${victim.run_id} sleep 61 & sleep 62 & wait -n; echo "$?"; wait`,
    );
    await until(
      () => processesOf(victim.run_id).some(({ pid }) => commandLine(pid) === "sleep\u000061\0") || undefined,
    );

    await hub.kill(victim, { signal: "SIGKILL" });

    expect(await hub.ended(victim)).toMatchObject({ status: "killed" });
    expect((await hub.run(forger)).status, "the forger itself goes on").toBe("running");
    await until(async () => (await hub.log(forger)).includes("137") || undefined);
    await hub.kill(forger, { signal: "SIGKILL" });
    expect(await hub.ended(forger)).toMatchObject({ status: "killed" });
  });

  test("can kill the agent, which loses no run, log or exit code", async () => {
    const pids: number[] = [];
    const deploy = serverProcess({ stopSignal: "SIGTERM", onStart: (pid) => pids.push(pid) });
    await using hub = await startHub({ deploy });
    const script = await hub.script(
      "kill-agent.sh",
      'until test -e "$1"; do sleep 0.02; done; kill -9 "$2"; echo done; exit 5',
    );
    const go = join(hub.dir, "go");
    const { json: run } = await hub.post(RUNS, { path: script, args: `${go} ${pids[0]}` });
    await writeFile(go, "");
    await until(() => !isServing(pids[0]!) || undefined);
    await hub.restart();
    expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 5 });
    expect(await hub.log(run)).toBe("done\n");
  });

  test("cannot send orders to an agent in a separate process: it can read no signing key", async () => {
    await using hub = await startHub();
    const agent = await startAgentProcess({
      dir: hub.dir,
      env: { ...hub.env, HUB_STATE_DIR: join(hub.dir, "agent-state") },
    });
    try {
      const socket = agent.url.slice("unix:".length);
      const run = await hub.runScript(
        `for path in /agent/v1/runs /agent/v1/health /agent/v1/recipes; do curl -s -o /dev/null -w '%{http_code}\\n' --unix-socket "${socket}" http://host-agent$path; done; cat /proc/${agent.child.pid}/environ | tr '\\0' '\\n'`,
      );
      await hub.ended(run);
      const log = await hub.log(run);
      expect(log).toMatch(/^401\n401\n401\n/);
      expect(log).not.toContain(agent.key.d);
    } finally {
      await agent.stop();
    }
  });
});

describe("the input of a launch", () => {
  test("arguments that look like options, assignments or file names of a shell stay arguments", async () => {
    await using hub = await startHub();
    const path = await hub.script(
      "words.sh",
      `printf '%s\\n' "$@"; env | grep -c -e LD_PRELOAD -e BASH_ENV -e ^ENV=`,
    );
    const { json } = await hub.post(RUNS, {
      path,
      args: "-c --rcfile -- LD_PRELOAD=/x BASH_ENV=/x ENV=/x @file /dev/fd/0 ../../x",
    });
    await hub.ended(json);
    expect(await hub.log(json)).toBe(
      "-c\n--rcfile\n--\nLD_PRELOAD=/x\nBASH_ENV=/x\nENV=/x\n@file\n/dev/fd/0\n../../x\n0\n",
    );
  });

  test("the loader and the shell of a run ignore the environment of the service", async () => {
    const env = {
      LD_PRELOAD: "",
      BASH_ENV: "/nowhere/x.sh",
      ENV: "/nowhere/x.sh",
      PROMPT_COMMAND: "id",
      // The agent sets its own one for each run.
      GIT_TERMINAL_PROMPT: "1",
      "BASH_FUNC_echo%%": "() { id; }",
    };
    await using hub = await startHub({ deploy: nodeEmbedded, env });
    const run = await hub.runScript(
      "echo own; env | grep -vx GIT_TERMINAL_PROMPT=0 | cut -d= -f1 | grep -E 'LD_|BASH|ENV$|PROMPT' | grep -vx BASH_VERSION; true",
    );
    await hub.ended(run);
    expect(await hub.log(run)).toBe("own\n");
  });

  test("more than execve accepts answers with a clear problem, not with a server error", async () => {
    await using hub = await startHub({
      recipes: [
        {
          recipe_id: "huge",
          title: "Huge",
          description: "",
          command: ["echo"],
          env: { BIG: "x".repeat(140_000) },
        },
      ],
    });
    const { status, json } = await hub.post("/api/v1/pipelines/runs", {
      recipe_id: "huge",
      args: "a ".repeat(10_000),
    });
    expect({ status, code: json.code }).toEqual({ status: 422, code: "launch_failed" });
    expect(json.detail).toContain("E2BIG");
  });

  test("a log written to slow down the error markers is checked in linear time", () => {
    const markers = DEFAULT_ERROR_MARKERS.map((source) => new RegExp(source, "u"));
    const hostile = [
      "a",
      "a.",
      "Error",
      "Error: ",
      "FATAL ",
      "FATAL:0",
      "' ",
      ": not found ",
      ": line 1",
      "1",
      " ",
      "\t",
      "(core dumped)",
      "panic",
    ];
    const heads = [
      "",
      "XError: 1",
      "XError: ",
      "FATAL",
      "FATAL =",
      "thread '",
      "a: 1: ",
      "command not found",
      "x: line 1: 1 ",
    ];
    const started = performance.now();
    for (const head of heads) {
      for (const part of hostile) findErrorLine(`${head}${part.repeat(65_536 / part.length)}!`, markers);
    }
    // Eight times what is ever looked at: a fraction of a second when all are linear, many seconds when one is not.
    expect(performance.now() - started).toBeLessThan(2_000);
  });
});

async function isOrphan(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, "latin1");
  const ppid = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
  return !(await readFile(`/proc/${ppid}/cmdline`, "latin1")).includes("wrapper.sh");
}

function isServing(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}
