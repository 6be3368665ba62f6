import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";

import {
  resultOf,
  type SpawnerAnswer,
  type SpawnerCalls,
  type SpawnerEnd,
  type SpawnerRequest,
} from "./spawner-protocol.ts";
import { StartUnknown } from "./executor.ts";

const SPAWNER_MAIN = fileURLToPath(new URL("spawner-main.ts", import.meta.url));
/** A heap that stays small: what a fork costs grows with the memory of the process that forks. */
const EXEC_ARGV = ["--max-semi-space-size=1", "--v8-pool-size=1"];
/** Far longer than a start takes on a busy host. */
const ANSWER_WITHIN_MS = 10_000;

/** Each call is made in the process. It throws StartUnknown when nobody knows what became of it. */
export interface Spawner extends SpawnerCalls {
  /** The one receiver of what happens to the runs that it has started. */
  onEvents(events: SpawnerEvents): void;
  /** True while the process is the parent of the run's wrapper, and so reports its end. */
  isParentOf(runId: string): boolean;
  /** Has the process ready for the first run. */
  warmUp(): void;
  /** Ends the process; the runs that it started go on. */
  close(): Promise<void>;
}

/** What happens to runs, by their ids. */
export interface SpawnerEvents {
  /** Its wrapper has ended. */
  ended(runId: string): void;
  /** Nobody reports the ends of these: the process that started them has ended. */
  lost(runIds: readonly string[]): void;
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
  let events: SpawnerEvents = { ended: () => {}, lost: () => {} };

  function ready() {
    if (!current?.isUsable()) {
      current = forkSpawner(answerWithinMs, {
        ended: (runId) => events.ended(runId),
        lost: (runIds) => events.lost(runIds),
      });
    }
    return current;
  }

  return {
    startRun: async (...args) => ready().ask("startRun", args),
    sendSignalAs: async (...args) => ready().ask("sendSignalAs", args),
    onEvents: (receiver) => void (events = receiver),
    isParentOf: (runId) => current?.isParentOf(runId) ?? false,
    warmUp: () => void ready(),
    close: async () => current?.end(),
  };
}

function forkSpawner(answerWithinMs: number, events: SpawnerEvents) {
  // Without an environment: a job may read that of the process that started it.
  const child: ChildProcess = fork(SPAWNER_MAIN, {
    execArgv: EXEC_ARGV,
    env: compileCache(),
    stdio: ["ignore", "ignore", "inherit", "ipc"],
    serialization: "json",
  });
  const waiting = new Map<number, Waiting>();
  /** The runs whose wrappers it may be the parent of: their ids by the number of the request, and the ids. */
  const started = new Map<number, string>();
  const parentOf = new Set<string>();
  let lastId = 0;
  let lost: StartUnknown | undefined;

  function lose(why: string): void {
    lost ??= new StartUnknown(`the process that starts runs ${why}`);
    for (const { reject, timer } of waiting.values()) {
      clearTimeout(timer);
      reject(lost);
    }
    waiting.clear();
    const orphans = [...parentOf];
    parentOf.clear();
    started.clear();
    events.lost(orphans);
    // Nobody asks it any more: one that is stopped would stay forever.
    child.kill("SIGKILL");
  }

  function wrapperEnded(id: number): void {
    const runId = started.get(id);
    if (runId === undefined) return;
    started.delete(id);
    parentOf.delete(runId);
    events.ended(runId);
  }

  child.on("message", (answer: SpawnerAnswer | SpawnerEnd) => {
    if ("ended" in answer) return wrapperEnded(answer.ended);
    const asked = waiting.get(answer.id);
    if (!asked) return;
    waiting.delete(answer.id);
    clearTimeout(asked.timer);
    try {
      asked.resolve(resultOf(answer));
    } catch (error) {
      // Nothing was started.
      parentOf.delete(started.get(answer.id) ?? "");
      started.delete(answer.id);
      asked.reject(error);
    }
  });
  child.on("error", (error) => lose(`failed: ${error.message}`));
  child.on("disconnect", () => lose("has ended"));

  return {
    isUsable: () => lost === undefined,
    isParentOf: (runId: string) => parentOf.has(runId),
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
        if (request.call === "startRun") {
          // Before the answer: the end can be reported first.
          const runId = basename(request.args[1].folder.path);
          started.set(id, runId);
          parentOf.add(runId);
        }
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
