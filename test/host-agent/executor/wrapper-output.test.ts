import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { processesOf } from "../../../host-agent/executor/process-tree.ts";
import { readExit } from "../../../host-agent/executor/run-folder.ts";
import { logEndMark, LOST_OUTPUT_LINE } from "../../../host-agent/logs/log-limit.ts";
import { until } from "../../support/hub.ts";
import { needs } from "../../support/needs.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { openDisk } from "../../behaviour/prove/disk.ts";
import { bash, forEachWrapper, realRun } from "./real-run.ts";

const isRoot = process.getuid?.() === 0;

/** A folder with a FIFO called "go". */
function fifoDir(): string {
  const dir = tempDir();
  mkdirSync(dir, { recursive: true });
  execFileSync("mkfifo", [join(dir, "go")]);
  return dir;
}

/** On a real disk no limit of a server replaces it. */
const NO_SERVERS: number[] = [];

forEachWrapper(() => {
  test("nothing that a job does to its own output loses a byte that it wrote before", async () => {
    const commands = [
      "echo x > /dev/stderr",
      "echo x > /dev/stdout",
      "echo x | tee /dev/stderr",
      "echo x &> /dev/stdout",
      "curl -s -o /dev/stdout file:///etc/hostname",
      "cp /etc/hostname /dev/stdout",
      "echo x > f; sort -o /dev/stdout f",
      `python3 -c "open('/dev/stdout','w').write('x')"`,
      "truncate -s 0 /dev/stdout",
      ": > /proc/self/fd/1",
      "dd if=/etc/hostname of=/dev/stdout status=none",
    ];
    await Promise.all(
      commands.map(async (command) => {
        const run = await realRun(bash(`echo before; ${command}; echo after; exit 4`));
        expect(await run.ended(), command).toBe(4);
        expect(run.text(), command).toMatch(/^before\n[^]*after\n$/);
      }),
    );
  });

  test("stdout and stderr are one pipe: what was written first is first in the log", async () => {
    const script = "for i in 1 2 3 4 5 6 7 8 9; do echo out $i; echo err $i >&2; done";
    const run = await realRun(bash(script));
    expect(await run.ended()).toBe(0);
    expect(run.text()).toBe([1, 2, 3, 4, 5, 6, 7, 8, 9].map((i) => `out ${i}\nerr ${i}\n`).join(""));
  });

  test("a log keeps exactly the bytes of its limit and ends with the line that reports it; one of exactly the limit has no such line", async () => {
    await Promise.all(
      [4_096, 5_000, 1, 512].map(async (limit) => {
        const over = await realRun(bash(`seq 1 100000; echo err >&2; exit 6`), { logLimit: limit });
        expect(await over.ended(), String(limit)).toBe(6);
        const all = Array.from({ length: 2_000 }, (_, i) => `${i + 1}\n`).join("");
        await until(() => over.log().length > limit || undefined);
        expect(over.text()).toBe(all.slice(0, limit) + logEndMark(limit).toString());

        const full = await realRun(bash(`printf %0${limit}d 0`), { logLimit: limit });
        expect(await full.ended(), String(limit)).toBe(0);
        expect(full.text()).toBe("0".repeat(limit));
      }),
    );
  });

  test("a run over its log limit goes on, and its pump ends with it", async () => {
    const run = await realRun(bash("seq 1 1000; read -t 20 <go; echo end >ended"), {
      logLimit: 100,
      dir: fifoDir(),
    });
    await until(() => run.log().length > 100 || undefined);
    writeFileSync(join(run.folder.path, "..", "..", "go"), "\n");
    expect(await run.ended()).toBe(0);
    await until(() => processesOf(run.runId).length === 0 || undefined);
  });

  test("a log is written as its command writes, whether it has a limit or not", async () => {
    await Promise.all(
      [undefined, 512, 1_000].map(async (logLimit) => {
        const run = await realRun(bash("echo first; sleep 60"), { logLimit });
        expect(await run.says("first\n")).toBe(true);
      }),
    );
  });

  test(
    "a full disk ends no job and sends it no signal: its output is dropped, and the log says where, once there is space",
    needs(isRoot, "only root can mount a small disk"),
    async (context) => {
      const disk = openDisk(join(tempDir(), "disk"));
      onTestFinished(() => disk.remove());
      if (disk.kind !== "tmpfs") context.skip("mount is not allowed here");
      const dir = tempDir();
      const script = `trap 'echo pipe >>${dir}/signals' PIPE; echo before; until [ -e ${dir}/full ]; do sleep 0.02; done
      for i in {1..200}; do printf %01000d 0 || echo failed >>${dir}/signals; done; echo >${dir}/written
      until [ -e ${dir}/free ]; do sleep 0.02; done; sleep 0.5; echo after; exit 5`;
      const run = await realRun(bash(script), { dir, logPath: join(disk.path, "log") });
      await run.says("before\n");
      const { fill } = disk;
      await until(() => fill(NO_SERVERS) || undefined);
      writeFileSync(join(dir, "full"), "");
      await until(() => existsSync(join(dir, "written")) || undefined);
      disk.free(NO_SERVERS);
      writeFileSync(join(dir, "free"), "");
      expect(await run.ended()).toBe(5);
      expect(existsSync(join(dir, "signals"))).toBe(false);
      const text = run.text();
      expect(text.startsWith("before\n")).toBe(true);
      expect(text).toContain(LOST_OUTPUT_LINE);
      expect(text.endsWith("after\n")).toBe(true);
    },
  );

  test("a run is over after the last line of the filter that its own output goes through, with the exit code of its command", async () => {
    const script = `exec > >(while read -r l; do sleep 0.01; echo "stamp $l"; done) 2>&1; seq 1 8; exit 3`;
    const run = await realRun(bash(script));
    expect(await run.ended()).toBe(3);
    expect(run.text()).toBe(Array.from({ length: 8 }, (_, i) => `stamp ${i + 1}\n`).join(""));
  });

  test("the wait for the end of the output is over after two seconds, whatever still writes, and nothing of that is lost; for a child that sleeps there is none", async () => {
    const sleeping = await realRun(bash(`read -t 30 <go & exit 0`), { dir: fifoDir() });
    const run = await realRun(bash(`(while :; do echo busy; done) & exit 2`));
    expect(await run.ended()).toBe(2);
    expect(readExit(sleeping.folder)).toMatchObject({ code: 0, isOver: true });
    const { size } = statSync(run.logPath);
    await until(() => statSync(run.logPath).size > size || undefined);
  });

  test("a background child that sleeps does not delay the end of a run, and what it writes later is kept", async () => {
    const run = await realRun(bash(`(read -t 30 <go; echo late) & exit 0`), { dir: fifoDir() });
    expect(await run.ended()).toBe(0);
    expect(run.text()).toBe("");
    writeFileSync(join(run.folder.path, "..", "..", "go"), "\n");
    await run.says("late\n");
    await until(() => processesOf(run.runId).length === 0 || undefined);
  });

  test("the exit code is on the disk while the output is waited for: a wrapper that is killed then costs nothing", async () => {
    const run = await realRun(bash(`(while :; do echo busy; done) & exit 9`));
    await until(() => (readExit(run.folder)?.isOver === false ? true : undefined));
    process.kill(run.handle.process!.pid, "SIGKILL");
    expect(readExit(run.folder)).toMatchObject({ code: 9, isOver: false });
  });

  test("a job that kills its wrapper loses none of its output", async () => {
    const run = await realRun(bash(`echo before; kill -KILL $PPID; sleep 0.2; echo after`));
    await run.says("after\n");
    expect(run.text()).toBe("before\nafter\n");
    await until(() => processesOf(run.runId).length === 0 || undefined);
    expect(readExit(run.folder)).toBeUndefined();
  });

  test("a pump that is killed is replaced, and the log keeps to its limit", async () => {
    const limit = 1_024;
    const script = `printf '%0600d' 0; sleep 0.5; pkill -9 -P $PPID -g $PPID; sleep 0.5; printf '%0600d' 1; exit 7`;
    const run = await realRun(bash(script), { logLimit: limit });
    expect(await run.ended()).toBe(7);
    expect(run.log().subarray(0, limit).toString()).toBe("0".repeat(limit));
  });

  test("a pump whose copying program is killed by the job goes on", async () => {
    const run = await realRun(
      bash(`echo before; sleep 0.3; pkill -9 -s $(ps -o sess= -p $PPID) cat; sleep 0.5; echo after; exit 7`),
    );
    expect(await run.ended()).toBe(7);
    expect(run.text()).toMatch(/^before\n[^]*after\n$/);
  });
});
