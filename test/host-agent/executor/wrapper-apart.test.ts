import { openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";

import { readStat } from "../../../host-agent/executor/process-identity.ts";
import { commandLine, processesOf } from "../../../host-agent/executor/process-tree.ts";
import { readExit, readStarted } from "../../../host-agent/executor/run-folder.ts";
import { until } from "../../support/hub.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { bash, forEachWrapper, realRun } from "./real-run.ts";

forEachWrapper(() => {
  test("a signal to its own process group ends a job, and neither its wrapper nor its exit code", async () => {
    const scripts: [string, number][] = [
      ["kill -9 0; sleep 60", 137],
      ["kill -ABRT 0; sleep 60", 134],
      ["kill -XCPU 0; sleep 60", 152],
      ["kill -RTMIN 0; sleep 60", 162],
      ["trap 'kill -9 0' EXIT; echo done", 137],
      ["kill -- -$$; sleep 60", 143],
      ["trap 'trap - TERM; kill -- -$$' EXIT; sleep 60 & echo done", 143],
    ];
    await Promise.all(
      scripts.map(async ([script, code]) => {
        const run = await realRun(bash(script));
        expect(await run.ended(), script).toBe(code);
        await until(() => processesOf(run.runId).length === 0 || undefined);
      }),
    );
  });

  test("a job leads its own process group, which is not that of the wrapper", async () => {
    const run = await realRun(bash("echo ready; sleep 60; :"));
    await run.says("ready");
    const wrapper = run.handle.process!.pid;
    const job = processesOf(run.runId).find(
      ({ pid, ppid }) => ppid === wrapper && pid === readStat(pid)?.pgrp,
    )!;
    expect(job.pgrp).not.toBe(readStat(wrapper)!.pgrp);
    expect(commandLine(job.pid)).toContain("/bin/bash");
  });

  test("the words of a command are in one command line of the host, and no argument is in the wrapper's", async () => {
    const dir = tempDir();
    const script = join(dir, "only-once-here.sh");
    writeFileSync(script, `#!/bin/bash\npgrep -fc only-once-here.sh\necho "$@"\nsleep 60\n`, { mode: 0o755 });
    const run = await realRun([script, "s3cret"], { dir });
    await run.says("s3cret\n");
    expect(run.text()).toBe("1\ns3cret\n");
    const others = processesOf(run.runId).filter(({ pid }) => commandLine(pid).includes("s3cret"));
    expect(others).toHaveLength(1);
    const wrapper = run.handle.process!.pid;
    expect(readFileSync(`/proc/${wrapper}/environ`, "latin1")).not.toContain("s3cret");
  });

  test("what the wrapper's shell would say of its job is not in the log", async () => {
    const scripts = ["kill -TERM $$", "kill -SEGV $$", "kill -KILL $$", "ulimit -c 0; kill -ABRT $$"];
    await Promise.all(
      scripts.map(async (script) => {
        const run = await realRun(bash(script));
        expect(await run.ended()).toBeGreaterThan(128);
        expect(run.text(), script).toBe("");
      }),
    );
  });

  test("a job gets no variable, no descriptor and no words of its wrapper, no input, and a limit on descriptors that select(2) can bear", async () => {
    const script = `readlink /proc/$$/fd/0; ulimit -Sn; for fd in 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$fd ] && echo "open $fd"; done; env | grep -iE '^(hub_|mark|code|dir|folder|limit)' | sort; printf '<%s>' "$@"`;
    const words = ["a b", "$HOME", "'", "", "*", "new\nline", "é\u{1F600}", "\u0081\u0088"];
    const run = await realRun(bash(script, ...words), { env: { mark: "mine", code: "mine" } });
    expect(await run.ended()).toBe(0);
    const shown = words.map((word) => `<${word}>`).join("");
    expect(run.text()).toBe(`/dev/null\n1024\nHUB_RUN_ID=${run.runId}\ncode=mine\nmark=mine\n${shown}`);
  });

  test("a command of a megabyte of words is whole", async () => {
    const words = Array.from({ length: 12 }, (_, i) => String(i % 10).repeat(100_000));
    const run = await realRun(bash(`printf %s "$@" | wc -c; echo $#`, ...words));
    expect(await run.ended()).toBe(0);
    expect(run.text()).toBe("1200000\n12\n");
  });

  test("a wrapper enters its cgroup before it claims the run, and claims nothing when it cannot", async () => {
    const dir = tempDir();
    const procs = join(dir, "cgroup.procs");
    writeFileSync(procs, "");
    const run = await realRun(bash("exit 1"), { cgroupFd: openSync(procs, "w") });
    expect(await run.ended()).toBe(1);
    expect(readFileSync(procs, "utf8")).toBe("0\n");

    // Every write there fails, as to a cgroup that is gone or full.
    const refused = await realRun(bash("echo started"), { cgroupFd: openSync("/dev/full", "w") });
    await until(() => readStat(refused.handle.process!.pid)?.state !== "S" || undefined);
    await until(() => processesOf(refused.runId).length === 0 || undefined);
    expect(readStarted(refused.folder)).toBeUndefined();
    expect(readExit(refused.folder)).toBeUndefined();
    expect(refused.text()).toBe("");
  });
});
