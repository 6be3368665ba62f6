import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as pause } from "node:timers/promises";

import { expect, onTestFinished, test, vi } from "vitest";

import { childrenOf } from "../../../host-agent/executor/descendants.ts";
import type { Handle } from "../../../host-agent/executor/executor.ts";
import {
  currentBootId,
  identify,
  isAlive,
  type ProcessStat,
  readStat,
} from "../../../host-agent/executor/process-identity.ts";
import { commandLine, processesOf } from "../../../host-agent/executor/process-tree.ts";
import { processPasses } from "../../../host-agent/executor/process-passes.ts";
import { type Owner, type Sent, sendSignal } from "../../../host-agent/executor/send-signal.ts";
import { leaderOf, type SignalDeps, treeOf, treeSignals } from "../../../host-agent/executor/signal-tree.ts";
import { until } from "../../support/hub.ts";
import { bash, forEachWrapper, realRun } from "./real-run.ts";

const HERE = currentBootId();

/** As for an agent that runs its jobs as its own user. */
const signals = treeSignals({
  passes: processPasses(),
  ownerOf: () => undefined,
  isApart: () => true,
  send: async (_owner, targets, signal) => sendSignal(targets, signal),
});

/** A run under the real wrapper, as the executor starts it. */
async function startRun(script: string) {
  const run = await realRun(bash(script));
  return { ...run, wrapper: run.handle.process!.pid };
}

/** Says each SIGTERM and goes on. */
const SAYS_TERM = `trap 'echo "$0 term"' TERM; echo "$0 ready"; while :; do sleep 0.02; done`;

async function msOf(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

async function ended(child: ChildProcess): Promise<void> {
  const exit = once(child, "exit");
  child.kill("SIGKILL");
  await exit;
}

/** This process, as a wrapper: nothing below is really sent. */
const WRAPPER = identify(process.pid)!;
const OWNER: Owner = { uid: 1_234, gid: 5_678 };
const stat = (pid: number, pgrp = pid): ProcessStat => ({
  pid,
  pgrp,
  ppid: 1,
  state: "S",
  startTime: String(pid),
  session: pgrp,
});
const LEADER = { ...stat(WRAPPER.pid), startTime: WRAPPER.startTime };
const IN_GROUP = stat(3, WRAPPER.pid);
const DAEMON = stat(4);
const COMMAND = { ...stat(8), ppid: WRAPPER.pid };
const OF_COMMAND = stat(9, COMMAND.pid);

/** Signals to a run whose lists of processes are these, one after the other; the last one repeats. */
function scripted(
  lists: ProcessStat[][],
  answer: Sent = "sent",
  process: Handle["process"] = WRAPPER,
  changes: Partial<SignalDeps> = {},
) {
  const sends: string[] = [];
  const owners = new Set<unknown>();
  let taken = 0;
  const scriptedSignals = treeSignals({
    passes: {
      async take() {
        const list = lists[Math.min(taken++, lists.length - 1)]!;
        return { of: () => list, childrenOf: () => [] };
      },
    },
    // As where the kernel does not list the children of a process.
    below: () => undefined,
    ownerOf: (runId) => (runId === "run_scripted" ? OWNER : undefined),
    isApart: () => false,
    async send(owner, targets, signal) {
      owners.add(owner);
      const names = targets.map(({ pid }) => String(pid).replace(String(WRAPPER.pid), "wrapper"));
      sends.push(`${signal} ${names.join(" ")}`);
      return targets.map(() => answer);
    },
    ...changes,
  });
  return { ...scriptedSignals, handle: { runId: "run_scripted", launchedIn: HERE, process }, sends, owners };
}

test("the group gets a signal at once, its daemons one each, and one that was started meanwhile its own, then all go on", async () => {
  const late = stat(5);
  const { signal, handle, sends, owners } = scripted([
    [LEADER, IN_GROUP, DAEMON],
    [LEADER, IN_GROUP, stat(6, WRAPPER.pid), DAEMON, late],
  ]);
  expect(await signal(handle, "SIGTERM")).toBe("sent");
  expect(sends).toEqual(["SIGTERM -wrapper 4", "SIGTERM 5", "SIGCONT -wrapper 4 5"]);
  expect([...owners], "with the rights of the run's user").toEqual([OWNER]);
});

test("a daemon is looked for twice after the signal, also when the first look finds none", async () => {
  const { signal, handle, sends } = scripted([[DAEMON], [DAEMON], [DAEMON, stat(5)], [stat(7)]]);
  expect(await signal(handle, "SIGINT")).toBe("sent");
  expect(sends).toEqual(["SIGINT 4", "SIGINT 5", "SIGCONT 4 5"]);
});

test("what is below the wrapper gets a signal before any list of processes, and then others are looked for three times", async () => {
  const lists = [[DAEMON, stat(5)], [stat(6)], [stat(7)], [stat(10)]];
  const { signal, handle, sends } = scripted(lists, "sent", WRAPPER, {
    below: (pid) => (pid === WRAPPER.pid ? [COMMAND, OF_COMMAND, DAEMON] : []),
  });
  expect(await signal(handle, "SIGTERM")).toBe("sent");
  expect(sends).toEqual([
    "SIGTERM -8 wrapper 4",
    "SIGTERM 5",
    "SIGTERM 6",
    "SIGTERM 7",
    "SIGCONT -8 wrapper 4 5 6 7",
  ]);
});

test("SIGKILL goes to what is below the wrapper and then to what a list finds, and spares the pump of a wrapper whose command is apart", async () => {
  for (const [isApart, sends] of [
    [true, ["SIGKILL 8 9", "SIGKILL 8 4"]],
    [false, ["SIGKILL 8 9 3", "SIGKILL 8 4 3"]],
  ] as const) {
    const lists = [[LEADER, COMMAND, DAEMON, IN_GROUP]];
    const run = scripted(lists, "sent", WRAPPER, {
      below: () => [COMMAND, OF_COMMAND, IN_GROUP],
      isApart: (runId) => isApart && runId === "run_scripted",
    });
    expect(await run.signal(run.handle, "SIGKILL")).toBe("sent");
    expect(run.sends).toEqual(sends);
  }
  const near = scripted([[]], "refused", WRAPPER, { below: () => [COMMAND] });
  expect(await near.signal(near.handle, "SIGKILL"), "what no list finds").toBe("refused");
});

test("a wrapper that is a zombie is not waited for, and what it left behind is found by a list", async () => {
  // What the shell has started belongs to `sleep`, which reads no exit code.
  const parent = spawn("/bin/sh", ["-c", "/bin/true & exec /bin/sleep 60"], { stdio: "ignore" });
  onTestFinished(() => void parent.kill("SIGKILL"));
  const zombie = await until(() =>
    childrenOf(parent.pid!)
      ?.map(readStat)
      .find((child) => child?.state === "Z"),
  );
  const { pid, startTime } = zombie;
  const run = scripted(
    [[DAEMON]],
    "sent",
    { pid, startTime, bootId: HERE },
    {
      below: () => expect.fail("it has no children any more"),
    },
  );
  const clock = vi.spyOn(performance, "now");
  onTestFinished(() => clock.mockRestore());
  await run.ready(run.handle);
  expect(clock, "one look").toHaveBeenCalledTimes(2);
  expect(await run.signal(run.handle, "SIGTERM")).toBe("sent");
  expect(run.sends).toEqual(["SIGTERM 4", "SIGCONT 4"]);
});

test("without a wrapper whose group it is, each process of a run gets a separate signal", async () => {
  const { signal, handle, sends } = scripted([[IN_GROUP, DAEMON]], "sent", {
    ...WRAPPER,
    startTime: undefined,
  });
  expect(await signal(handle, "SIGTERM")).toBe("sent");
  expect(sends).toEqual(["SIGTERM 3 4", "SIGCONT 3 4"]);
});

test.for(["refused", "gone"] as const)(
  "a signal that all processes answer with %s is reported so",
  async (answer) => {
    const { signal, handle } = scripted([[LEADER, DAEMON]], answer);
    expect(await signal(handle, "SIGTERM")).toBe(answer);
    // What is listed is left, whatever became of its signal.
    expect(await signal(handle, "SIGKILL")).toBe(answer === "refused" ? "refused" : "sent");
  },
);

test("nothing is sent when nothing is left, nor a SIGKILL when only the wrapper is", async () => {
  const { signal, kill, handle, sends } = scripted([[]]);
  expect(await signal(handle, "SIGTERM")).toBe("gone");
  expect(await signal(handle, "SIGKILL")).toBe("gone");
  await kill(handle);
  expect(sends).toEqual([]);
  const alone = scripted([[LEADER]]);
  expect(await alone.signal(alone.handle, "SIGKILL")).toBe("sent");
  expect(alone.sends).toEqual([]);
});

test("the end of a run is tried twenty times, from the eleventh time on with its wrapper", async () => {
  const turns = new Set<number>();
  let turn = 0;
  const { kill, handle, sends } = scripted([[LEADER, DAEMON]], "sent", WRAPPER, {
    ownerOf() {
      turns.add(turn);
      setImmediate(() => turn++);
      return undefined;
    },
  });
  await kill(handle);
  expect(sends).toEqual([
    ...Array<string>(10).fill("SIGKILL 4"),
    ...Array<string>(10).fill("SIGKILL wrapper 4"),
  ]);
  expect(turns.size, "in between, others work").toBe(20);
});

test("a run's processes are no older than its wrapper, where its start is known and of this boot", () => {
  const since = (changes: object) =>
    treeOf({ runId: "r", launchedIn: HERE, process: { ...WRAPPER, ...changes } }, OWNER);
  expect(since({})).toEqual({
    runId: "r",
    leader: WRAPPER.pid,
    since: Number(WRAPPER.startTime),
    uid: OWNER.uid,
  });
  for (const changes of [{ startTime: undefined }, { startTime: "unknown" }, { bootId: "another boot" }]) {
    expect(since(changes), JSON.stringify(changes)).toMatchObject({ leader: undefined, since: undefined });
  }
  expect(treeOf({ runId: "r", launchedIn: HERE, process: undefined }, undefined)).toEqual({
    runId: "r",
    leader: undefined,
    since: undefined,
    uid: undefined,
  });
});

forEachWrapper(() => {
  test("a signal reaches daemons in other sessions and groups, also without the run's environment, once each", async () => {
    const says = `/bin/bash -c '${SAYS_TERM.replaceAll("'", `'\\''`)}'`;
    const run = await startRun(
      `${says} child & setsid ${says} daemon & env -i setsid ${says} bare & exec ${says} command`,
    );
    const names = ["child", "daemon", "bare", "command"];
    for (const name of names) await run.says(`${name} ready`);

    expect(await signals.signal(run.handle, "SIGTERM")).toBe("sent");
    for (const name of names) await run.says(`${name} term`);
    // A second signal would have come by now.
    await pause(100);
    expect(
      run
        .text()
        .match(/\w+ term/g)!
        .toSorted(),
    ).toEqual(names.map((name) => `${name} term`).toSorted());
    expect(isAlive(identify(run.wrapper)!), "the wrapper outlives it").toBe(true);
  });

  test("what the wrapper has started receives the signal before the processes of the host are listed, and once", async () => {
    const says = `/bin/bash -c '${SAYS_TERM.replaceAll("'", `'\\''`)}'`;
    const run = await startRun(`setsid ${says} daemon & exec ${says} command`);
    for (const name of ["daemon", "command"]) await run.says(`${name} ready`);
    const passes = processPasses();
    const { promise: isSignalled, resolve: signalled } = Promise.withResolvers<void>();
    const late = treeSignals({
      passes: {
        async take(trees) {
          await isSignalled;
          return passes.take(trees);
        },
      },
      ownerOf: () => undefined,
      isApart: () => true,
      send: async (_owner, targets, signal) => sendSignal(targets, signal),
    });
    const sending = late.signal(run.handle, "SIGTERM");
    for (const name of ["daemon", "command"]) await run.says(`${name} term`);
    signalled();
    expect(await sending).toBe("sent");
    await pause(100);
    expect(run.text().match(/term/g)).toHaveLength(2);
  });

  test("a process that is stopped receives the signal at once, and not when somebody lets it go on", async () => {
    const run = await startRun(`trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.02; done`);
    await run.says("ready");
    const command = processesOf(run.handle.runId).find(
      ({ pid, pgrp, ppid }) => ppid === run.wrapper && pgrp === pid,
    )!;
    process.kill(command.pid, "SIGSTOP");
    expect(await signals.signal(run.handle, "SIGTERM")).toBe("sent");
    await run.says("bye");
  });

  test("SIGKILL spares the wrapper, which writes the exit code of the command", async () => {
    const run = await startRun("echo ready; setsid sleep 60 & sleep 60");
    // The wrapper, its command, and two that sleep.
    await until(() => {
      const members = processesOf(run.handle.runId);
      return members.filter(({ pid }) => commandLine(pid).startsWith("sleep\0")).length === 2 || undefined;
    });
    expect(await signals.signal(run.handle, "SIGKILL")).toBe("sent");
    expect(await run.ended()).toBe(137);
    await until(() => processesOf(run.handle.runId).length === 0 || undefined);
  });

  test("a run of which nothing is left is gone, for every signal", async () => {
    const run = await startRun("exit 0");
    await until(() => (processesOf(run.handle.runId, leaderOf(run.handle)).length === 0 ? true : undefined));
    for (const signal of ["SIGTERM", "SIGINT", "SIGKILL"] as const) {
      expect(await signals.signal(run.handle, signal), signal).toBe("gone");
    }
  });

  test("the end of a run kills also what forks without a pause, and in the end a wrapper that is stopped", async () => {
    const run = await startRun("echo ready; while :; do setsid sleep 60 & done");
    await run.says("ready");
    process.kill(run.wrapper, "SIGSTOP");
    await signals.kill(run.handle);
    expect(processesOf(run.handle.runId)).toEqual([]);
    expect(identify(run.wrapper)).toBeUndefined();
  });

  test("the leader of a run's group is its wrapper, alive or a zombie, of this boot, and no later process", async () => {
    const child = spawn("/bin/sleep", ["60"], { stdio: "ignore" });
    onTestFinished(() => void child.kill("SIGKILL"));
    const process = await until(() => identify(child.pid!));
    const leader = (changes: object) =>
      leaderOf({ runId: "run_x", launchedIn: HERE, process: { ...process, ...changes } });
    expect(leader({})).toBe(child.pid);
    for (const changed of [{ startTime: "1" }, { startTime: undefined }, { bootId: "another boot" }]) {
      expect(leader(changed), JSON.stringify(changed)).toBeUndefined();
    }
    expect(leaderOf({ runId: "run_x", launchedIn: HERE, process: undefined })).toBeUndefined();
  });

  test("a wrapper that has not started its command is waited for, until it has or is gone, and no longer than a second", async () => {
    const run = await startRun("echo ready; sleep 60");
    await signals.ready(run.handle);
    const started = processesOf(run.handle.runId).filter(({ ppid }) => ppid === run.wrapper);
    expect(started.map(({ pid }) => commandLine(pid).split("\0")[0])).not.toEqual([]);

    // About to start something, as far as anybody can see: alone, and with a fork that has not become the command.
    for (const [program, ...words] of [
      ["/bin/sleep", "60"],
      ["/bin/bash", "-c", "(while :; do /bin/sleep 1; done); true"],
    ] as [string, ...string[]][]) {
      const wrapper = spawn(program, words, { stdio: "ignore", detached: true });
      const process = await until(() => identify(wrapper.pid!));
      const handle = { runId: "run_alone", launchedIn: HERE, process };
      // The group, which outlives its leader.
      onTestFinished(() => killGroup(wrapper.pid!));
      await until(() => processesOf("", wrapper.pid).length >= (words.length === 1 ? 1 : 3) || undefined);
      const waited = await msOf(() => signals.ready(handle));
      await ended(wrapper);
      const afterEnd = await msOf(() => signals.ready(handle));
      expect(waited, program).toBeGreaterThanOrEqual(1_000);
      // A look at a busy host takes long, and counts.
      expect(waited, program).toBeLessThan(3_000);
      expect(afterEnd, program).toBeLessThan(1_000);
    }
  });
});
