import { spawn } from "node:child_process";
import { once } from "node:events";

import { describe, expect, onTestFinished, test } from "vitest";

import { identify } from "../../../host-agent/executor/process-identity.ts";
import { processPasses } from "../../../host-agent/executor/process-passes.ts";
import { commandLine, createStrangers, type Tree } from "../../../host-agent/executor/process-tree.ts";
import { until } from "../../support/hub.ts";
import { needs } from "../../support/needs.ts";
import { CAN_BE_NOBODY, NOBODY_UID, WHY_NOT_NOBODY } from "../../support/other-user.ts";

const RUN_ID = "run_0123456789ab";
const ANY: Tree = { runId: RUN_ID, leader: undefined, since: undefined, uid: undefined };

/** A process that carries the id of the run; ended with the test. */
async function member({ env = {}, uid }: { env?: Record<string, string>; uid?: number } = {}) {
  const child = spawn("sleep", ["600"], {
    stdio: "ignore",
    env: { PATH: process.env["PATH"]!, HUB_RUN_ID: RUN_ID, ...env },
    ...(uid !== undefined && { uid, gid: uid }),
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  await once(child, "spawn");
  return until(() => identify(child.pid!));
}

const byNumber = (a: number, b: number) => a - b;

async function found(tree: Tree): Promise<number[]> {
  return (await processPasses().take([tree])).of(tree).map(({ pid }) => pid);
}

describe("a walk over the processes of the host", () => {
  test("lets other work go on between any two processes when its time is used up", async () => {
    const [one, two] = [await member(), await member()];
    let turns = 0;
    let isOver = false;
    const count = () => {
      turns++;
      if (!isOver) setImmediate(count);
    };
    setImmediate(count);
    const list = await processPasses(0).take([ANY]);
    isOver = true;
    expect(
      list
        .of(ANY)
        .map(({ pid }) => pid)
        .toSorted(byNumber),
    ).toEqual([one.pid, two.pid].toSorted(byNumber));
    // Two for each process of these: its stat and its environment.
    expect(turns).toBeGreaterThanOrEqual(4);
  });

  test("is shared by all callers that come while another is under way, and begins later than each of their calls", async () => {
    const passes = processPasses(0);
    const first = passes.take([ANY]);
    await new Promise(setImmediate);
    const late = await member();
    const [second, third] = [passes.take([ANY]), passes.take([{ ...ANY, leader: late.pid }])];
    expect(await second).toBe(await third);
    expect(await second).not.toBe(await first);
    expect((await second).of(ANY).map(({ pid }) => pid)).toEqual([late.pid]);
  });

  test("takes no process for one of a run that is older than the run", async () => {
    const older = await member();
    await new Promise((resolve) => setTimeout(resolve, 30));
    const younger = await member();
    const since = Number(younger.startTime);
    expect(await found({ ...ANY, since })).toEqual([younger.pid]);
    expect((await found({ ...ANY, since: Number(older.startTime) })).toSorted(byNumber)).toEqual(
      [older.pid, younger.pid].toSorted(byNumber),
    );
  });

  test("reads a bounded part of an environment, however large a run has made it", async () => {
    const parts = Object.fromEntries(
      Array.from({ length: 12 }, (_, i) => [`A${String(i).padStart(2, "0")}`, "x".repeat(100_000)]),
    );
    const { PATH } = process.env;
    const spawned = ["HUB_RUN_ID", "Z"].map((last) => {
      // env(1) sets the variables in this order; the kernel keeps it.
      const words = Object.entries(parts).map(([name, value]) => `${name}=${value}`);
      const id = `HUB_RUN_ID=${RUN_ID}`;
      const child = spawn(
        "env",
        ["-i", ...(last === "Z" ? [id, ...words] : [...words, id]), "sleep", "600"],
        {
          stdio: "ignore",
          env: { PATH: PATH! },
        },
      );
      onTestFinished(() => void child.kill("SIGKILL"));
      return child.pid!;
    });
    const [, idFirst] = spawned;
    await until(() => spawned.every((pid) => commandLine(pid).startsWith("sleep\0")) || undefined);
    expect(await found(ANY)).toEqual([idFirst]);
  });

  test(
    "takes a process of another user for none of a run, although it carries its id",
    needs(CAN_BE_NOBODY, WHY_NOT_NOBODY),
    async () => {
      const [roots, theirs] = [await member(), await member({ uid: NOBODY_UID })];
      expect(await found({ ...ANY, uid: NOBODY_UID })).toEqual([theirs.pid]);
      expect((await found(ANY)).toSorted(byNumber)).toEqual([roots.pid, theirs.pid].toSorted(byNumber));
    },
  );
});

test("a process is remembered as a stranger by pid and start time, and not right after its fork, when its environment is its parent's", () => {
  const strangers = createStrangers();
  const stat = { pid: 7, state: "S", ppid: 1, pgrp: 7, session: 7, startTime: "1" };
  const young = { ...stat, pid: 8, startTime: identify(process.pid)!.startTime };
  const justForked = { ...stat, pid: 9, startTime: String(2 ** 40) };
  for (const each of [stat, justForked]) strangers.add(each);
  expect(strangers.has(stat)).toBe(true);
  expect(strangers.has({ ...stat, startTime: "2" })).toBe(false);
  expect(strangers.has(justForked)).toBe(false);
  strangers.keep([young]);
  expect(strangers.has(stat)).toBe(false);
});
