import { spawn } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setImmediate as endOfTurn, setTimeout as pause } from "node:timers/promises";

import { describe, expect, onTestFinished, test } from "vitest";

import { logLine } from "../../../host-agent/system/log-line.ts";
import { openLogger } from "../../../host-agent/system/logger.ts";

const url = (path: string) => JSON.stringify(new URL(`../../../host-agent/${path}`, import.meta.url).href);

test("A log line has the time, the level and the event first, in whatever order they were given", () => {
  const line = logLine({ run_id: "run_1", event: "killed", level: "warn" }, new Date(0));
  expect(line).toBe('{"time":"1970-01-01T00:00:00.000Z","level":"warn","event":"killed","run_id":"run_1"}');
});

describe("A logger", () => {
  test("writes its lines at the end of the turn, and at a flush", async () => {
    const { path, fd } = temporaryFile();
    const { log, flush } = openLogger(fd);
    log({ level: "info", event: "one" });
    log({ level: "info", event: "two" });
    expect(events(readFileSync(path, "utf8"))).toEqual([]);
    await endOfTurn();
    expect(events(readFileSync(path, "utf8"))).toEqual(["one", "two"]);
    log({ level: "info", event: "three" });
    flush();
    expect(events(readFileSync(path, "utf8"))).toEqual(["one", "two", "three"]);
  });

  test("does not end its program when its reader is gone", async () => {
    const child = program(`
      setTimeout(() => {
        log({ level: "info", event: "one" });
        flush();
        log({ level: "info", event: "two" });
        setTimeout(() => console.log("still running"));
      }, 100);`);
    child.stderr.destroy();
    expect(await text(child.stdout)).toBe("still running\n");
  });

  test("keeps the lines that a full pipe does not take, and writes each of them whole once it is read", async () => {
    const child = program(`
      for (let i = 0; i < 500; i++) log({ level: "info", event: String(i), filler: "x".repeat(1_000) });
      setTimeout(() => {}, 300);`);
    await pause(200);
    expect(events(await text(child.stderr))).toEqual(Array.from({ length: 500 }, (_, i) => String(i)));
  });

  test("neither blocks nor grows when nobody reads its pipe, and reports how many lines it dropped", async () => {
    const child = program(`
      for (let i = 0; i < 5_000; i++) log({ level: "info", event: "line", filler: "x".repeat(1_000) });
      console.log("still running");
      setTimeout(() => {}, 2_000);`);
    const [firstOutput] = (await child.stdout.take(1).toArray()) as [Buffer];
    expect(firstOutput.toString()).toBe("still running\n");
    const lines = (await text(child.stderr)).trimEnd().split("\n");
    const last = JSON.parse(lines.at(-1)!) as { event: string; count: number };
    expect(last).toMatchObject({ level: "warn", event: "log_lines_lost" });
    expect(lines.length - 1 + last.count).toBe(5_000);
  });
});

describe("A service", () => {
  test.each([
    ["exits", "process.exit(3);"],
    ["ends with an error that nothing catches", 'throw new Error("fatal");'],
  ])("has written its last log line when it %s in the same turn", async (_way, end) => {
    const child = run(`
      import { runService } from ${url("system/service.ts")};
      await runService(async (log) => {
        setTimeout(() => {
          log({ level: "error", event: "last" });
          ${end}
        });
        return { banner: "", warnings: [], countAlive: async () => 0, stop: async () => {} };
      });`);
    expect(await text(child.stderr)).toContain('"level":"error","event":"last"}\n');
  });
});

/** A program with a log on a pipe that does not block: its reader is this test. */
function program(body: string) {
  return run(`
    import { openLogger } from ${url("system/logger.ts")};
    void process.stderr;
    const { log, flush } = openLogger(2);
    process.once("exit", flush);
    ${body}`);
}

function run(source: string) {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", source], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  return child;
}

function events(lines: string): string[] {
  const whole = lines.split("\n").filter((line) => line !== "");
  return whole.map((line) => (JSON.parse(line) as { event: string }).event);
}

function temporaryFile() {
  const dir = mkdtempSync(join(tmpdir(), "logger-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, "log");
  return { path, fd: openSync(path, "a") };
}
