import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, onTestFinished, test } from "vitest";

import { hasEnded, readStat } from "../../../host-agent/executor/process-identity.ts";
import { processesOf } from "../../../host-agent/executor/process-tree.ts";
import { until } from "../../support/hub.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { type Idiom, IDIOMS } from "./idioms.ts";
import { forEachWrapper, realRun } from "./real-run.ts";

const AT_ONCE = 6;
let count = 0;

/** What a run of a script shows. */
interface Shown {
  code: number;
  output: string;
  /** The names of the programs that are left over. */
  left: string[];
}

/** A folder with the script. Whatever path it is in is the same in the output. */
function place({ script }: Idiom): { dir: string; path: string; shown: (bytes: Buffer) => string } {
  const dir = tempDir();
  chmodSync(dir, 0o755);
  const path = join(dir, "idiom.sh");
  writeFileSync(path, `#!/bin/bash\n${script}\n`, { mode: 0o755 });
  return { dir, path, shown: (bytes) => bytes.toString("latin1").replaceAll(dir, ".") };
}

const ENV = { PATH: process.env["PATH"]!, HOME: "/", LANG: "C.UTF-8" };

/** As under ssh or systemd: in a separate session, with its output in a pipe. */
async function byHand(idiom: Idiom): Promise<Shown> {
  const { dir, path, shown } = place(idiom);
  const token = `run_hand${process.pid}x${++count}`;
  const logs = tempDir();
  const [log, code] = [join(logs, "log"), join(logs, "code")];
  const around = `(ulimit -S -n 1024; HUB_RUN_ID=${token} setsid "$IDIOM" </dev/null 2>&1; echo $? >"$2") 2>/dev/null | cat >"$1"`;
  const child = spawn("/bin/bash", ["-c", around, "bash", log, code], {
    cwd: dir,
    // Not as a word: it would be in two command lines.
    env: { ...ENV, IDIOM: path },
    stdio: "ignore",
  });
  const left = () => processesOf(token);
  onTestFinished(() => {
    for (const { pid } of left()) process.kill(pid, "SIGKILL");
    child.kill("SIGKILL");
  });
  const text = await until(
    () => (existsSync(code) && readFileSync(code, "latin1").trim()) || undefined,
    60_000,
  );
  await outputEnded(log);
  return {
    code: Number(text),
    output: shown(readFileSync(log)),
    left: namesOf(left().map(({ pid }) => pid)),
  };
}

async function asRun(idiom: Idiom): Promise<Shown> {
  const { dir, path, shown } = place(idiom);
  const run = await realRun([path], { dir, env: ENV, logPath: join(tempDir(), "log") });
  const { pid: wrapper } = run.handle.process!;
  const code = await run.ended();
  await outputEnded(run.logPath);
  // The wrapper and its pump are no processes of the job.
  const left = processesOf(run.runId).filter(({ pgrp }) => pgrp !== wrapper);
  return { code, output: shown(run.log()), left: namesOf(left.map(({ pid }) => pid)) };
}

/** Waits until what may still write, as an orphan, has written. */
async function outputEnded(path: string): Promise<void> {
  let before = -1;
  await until(
    () => {
      const { length } = readFileSync(path);
      const isSame = length === before;
      before = length;
      return isSame || undefined;
    },
    20_000,
    400,
  );
  await new Promise((resolve) => setTimeout(resolve, 400));
}

function namesOf(pids: number[]): string[] {
  const names = pids.map((pid) => {
    const stat = readStat(pid);
    return stat && !hasEnded(stat) ? read(`/proc/${pid}/comm`).trim() : "";
  });
  return names.filter(Boolean).toSorted();
}

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}

const isInstalled = (program: string) =>
  spawnSync("/bin/sh", ["-c", 'command -v "$0"', program], { stdio: "ignore" }).status === 0;

const clip = (shown: Shown) => ({ ...shown, output: shown.output.slice(0, 300) });

/** On a busy host a process that was killed may still be seen: a difference that is the product's shows each time. */
const TRIES = 3;

/** What a run by hand showed, by idiom: the same for each wrapper. */
const known = new Map<string, Shown>();

async function differenceOf(idiom: Idiom): Promise<object | undefined> {
  let difference: object | undefined;
  for (let tries = 0; tries < TRIES; tries++) {
    // oxlint-disable-next-line no-await-in-loop -- each try only after a difference
    const [hand, run] = await Promise.all([known.get(idiom.name) ?? byHand(idiom), asRun(idiom)]);
    if (JSON.stringify(hand) === JSON.stringify(run)) {
      known.set(idiom.name, hand);
      return undefined;
    }
    known.delete(idiom.name);
    difference = { name: idiom.name, hand: clip(hand), run: clip(run) };
  }
  return difference;
}

forEachWrapper(() => {
  describe("a script behaves as in a run by hand: exit code, output, what is left over, what ps shows", () => {
    const tried = IDIOMS.filter(({ needs }) => needs === undefined || isInstalled(needs));

    test("at least forty ways to write a script are compared", () => {
      expect(tried.length).toBeGreaterThanOrEqual(40);
    });

    test("they are the same", { timeout: 300_000 }, async () => {
      const waiting = [...tried];
      const wrong: object[] = [];
      async function work(): Promise<void> {
        for (let idiom = waiting.shift(); idiom !== undefined; idiom = waiting.shift()) {
          // oxlint-disable-next-line no-await-in-loop -- a few at a time
          const difference = await differenceOf(idiom);
          if (difference) wrong.push(difference);
        }
      }
      await Promise.all(Array.from({ length: AT_ONCE }, work));
      expect(wrong).toEqual([]);
    });
  });
});
