import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

import { resultOf, type SpawnerAnswer, type SpawnerCalls, type SpawnerRequest } from "./spawner-protocol.ts";
import { StartUnknown } from "./executor.ts";

const SPAWNER_MAIN = fileURLToPath(new URL("spawner-main.ts", import.meta.url));
/** A heap that stays small: what a fork costs grows with the memory of the process that forks. */
const EXEC_ARGV = ["--max-semi-space-size=1", "--v8-pool-size=1"];
/** Far longer than a start takes on a busy host. */
const ANSWER_WITHIN_MS = 10_000;

/** Each call is made in the process. It throws StartUnknown when nobody knows what became of it. */
export interface Spawner extends SpawnerCalls {
  /** Has the process ready for the first run. */
  warmUp(): void;
  /** Ends the process; the runs that it started go on. */
  close(): Promise<void>;
}

interface Waiting {
  resolve(result: unknown): void;
  reject(error: unknown): void;
  timer: NodeJS.Timeout;
}

/**
 * Starts runs from a small separate process. fork(2) copies the page tables of
 * the process that calls it, so the agent itself, with its heap, would take
 * several times as long, and answer nobody meanwhile. A spawner that ends or
 * hangs is replaced by the next start.
 */
export function openSpawner(answerWithinMs = ANSWER_WITHIN_MS): Spawner {
  let current: ReturnType<typeof forkSpawner> | undefined;

  function ready() {
    if (!current?.isUsable()) current = forkSpawner(answerWithinMs);
    return current;
  }

  return {
    startRun: async (...args) => ready().ask("startRun", args),
    sendSignalAs: async (...args) => ready().ask("sendSignalAs", args),
    warmUp: () => void ready(),
    close: async () => current?.end(),
  };
}

function forkSpawner(answerWithinMs: number) {
  // Without an environment: a job may read that of the process that started it.
  const child: ChildProcess = fork(SPAWNER_MAIN, {
    execArgv: EXEC_ARGV,
    env: compileCache(),
    stdio: ["ignore", "ignore", "inherit", "ipc"],
    serialization: "json",
  });
  const waiting = new Map<number, Waiting>();
  let lastId = 0;
  let lost: StartUnknown | undefined;

  function lose(why: string): void {
    lost ??= new StartUnknown(`the process that starts runs ${why}`);
    for (const { reject, timer } of waiting.values()) {
      clearTimeout(timer);
      reject(lost);
    }
    waiting.clear();
    // Nobody asks it any more: one that is stopped would stay forever.
    child.kill("SIGKILL");
  }

  child.on("message", (answer: SpawnerAnswer) => {
    const asked = waiting.get(answer.id);
    if (!asked) return;
    waiting.delete(answer.id);
    clearTimeout(asked.timer);
    try {
      asked.resolve(resultOf(answer));
    } catch (error) {
      asked.reject(error);
    }
  });
  child.on("error", (error) => lose(`failed: ${error.message}`));
  child.on("disconnect", () => lose("has ended"));

  return {
    isUsable: () => lost === undefined,
    async ask<Call extends keyof SpawnerCalls>(call: Call, args: Parameters<SpawnerCalls[Call]>) {
      const answered = new Promise<unknown>((resolve, reject) => {
        const id = ++lastId;
        const timer = setTimeout(() => {
          // If this process was blocked, the answer has arrived and is only to be read: that comes before an immediate.
          setImmediate(() => {
            if (waiting.has(id)) lose("does not answer");
          });
        }, answerWithinMs);
        waiting.set(id, { resolve, reject, timer });
        const request = { id, call, args } as SpawnerRequest;
        child.send(request, (error) => error && lose(`cannot be asked: ${error.message}`));
      });
      return (await answered) as Awaited<ReturnType<SpawnerCalls[Call]>>;
    },
    async end(): Promise<void> {
      if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
      const ended = once(child, "exit");
      // Not asked to end: it may be stopped. What it is in the middle of is as after a crash.
      child.kill("SIGKILL");
      await ended;
    },
  };
}

/** Where the agent's own code is kept compiled, so is the spawner's. */
function compileCache(): Record<string, string> {
  const folder = process.env["NODE_COMPILE_CACHE"];
  return folder === undefined ? {} : { NODE_COMPILE_CACHE: folder };
}
