import { localExecutor } from "../../../host-agent/executor/local.ts";
import type { Ended, Executor, Handle, Look, Observation } from "../../../host-agent/executor/executor.ts";

/** An executor whose runs are what a test says; all that the test does not script is the local one's. */
export interface ScriptedExecutor extends Executor {
  /** What each look finds, by run id; a run that is not listed is running. */
  seen: Map<string, Observation>;
  /** The looks that were made. */
  looks: Look[];
  /** What `recover` finds; it may do something before it answers. */
  onRecover(runId: string): Promise<"never_started" | "unreadable" | Handle>;
}

/** Starts nothing by itself: `changes` are the methods that a test replaces. */
export function scriptedExecutor(stateDir: string, changes: Partial<Executor> = {}): ScriptedExecutor {
  const scripted: ScriptedExecutor = {
    ...localExecutor({ stateDir, env: {}, runUser: undefined }),
    seen: new Map(),
    looks: [],
    onRecover: async () => "never_started",
    async look(looks) {
      scripted.looks.push(...looks);
      return looks.map(({ handle }) => scripted.seen.get(handle.runId) ?? { state: "running" });
    },
    recover: async (runId) => scripted.onRecover(runId),
    ...changes,
  };
  return scripted;
}

/** A run that ended with this exit code, or without one. */
export function endedWith(exitCode: number | undefined, changes: Partial<Ended> = {}): Ended {
  const at = exitCode === undefined ? undefined : 5_000;
  return {
    state: "ended",
    exitCode,
    unreadable: undefined,
    at,
    rebooted: false,
    commandStarted: true,
    ...changes,
  };
}
