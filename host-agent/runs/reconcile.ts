import { lstatSync } from "node:fs";

import { cutLog, fileIdentity } from "../logs/log-limit.ts";
import { classify, type Ending, type Outcome, signalOfExitCode } from "./outcome.ts";
import {
  currentBootId,
  identify,
  isAlive,
  type ProcessIdentity,
  readStat,
} from "../executor/process-identity.ts";
import { hasEnvironmentEntry, processesOf, RUN_ID_VARIABLE } from "../executor/process-tree.ts";
import {
  claimRun,
  exitTime,
  isClaimEmpty,
  isUntouched,
  readExitCode,
  readStarted,
  type RunFolder,
  runFolder,
} from "../executor/run-folder.ts";
import type { RunStore, StoredRun } from "../store/run-store.ts";
import { readTail } from "../logs/log-file.ts";

const TAIL_BYTES = 8_192;
/** How often, and how far apart, to look for the pid of a wrapper that has just claimed its run. */
const STARTED_LOOKS = 20;
const STARTED_LOOK_INTERVAL_MS = 25;

export interface SettleDeps {
  store: RunStore;
  stateDir: string;
  now(): number;
  /** Tells which error markers count for a run, by the recipes file as it is now. */
  markers(): Promise<MarkersOf>;
  /** The identity of this very agent. */
  self: ProcessIdentity;
  /** True while this agent is in the middle of launching the run. */
  isLaunching(runId: string): boolean;
}

/** The error markers that count for this run. */
export type MarkersOf = (run: StoredRun) => readonly RegExp[];

/** The looks at one run and at many, as `createSettle` makes them. */
export type Settle = ReturnType<typeof createSettle>;

/**
 * Finds out what a run that was alive is now, records it when it has changed,
 * and returns the run. All that it goes by lies outside this process: the run's
 * folder and /proc. So any agent, at any time, comes to the same answer.
 * `settleAll` does that for many with one write to the disk.
 */
export function createSettle(deps: SettleDeps) {
  const { store, stateDir, now } = deps;

  async function settle(known: StoredRun): Promise<StoredRun> {
    if (known.ended_at !== null) return known;
    // Who read it may have waited for others since: a launch may be over, or a signal sent.
    const run = store.get(known.run_id) ?? known;
    if (run.ended_at !== null) return run;
    const folder = runFolder(stateDir, run.run_id);
    if (run.status === "launching") return settleLaunch(run, folder);
    return isGoingOn(run, folder) ? run : settleStarted(run, await deps.markers());
  }

  /** `failures` are of runs that could not be looked at; these are returned as they were. */
  async function settleAll(known: readonly StoredRun[]): Promise<{ runs: StoredRun[]; failures: unknown[] }> {
    const markersOf = await deps.markers();
    const failures: unknown[] = [];
    const settled = store.exclusively(() =>
      known.map((run) => {
        try {
          return run.status === "launching" ? run : settleStarted(run, markersOf);
        } catch (error) {
          failures.push(error);
          return run;
        }
      }),
    );
    const runs: StoredRun[] = [];
    for (const run of settled) runs.push(run.status === "launching" ? await settle(run) : run);
    return { runs, failures };
  }

  /** Of a run whose launch is over; in one go, so that nobody changes it in between. */
  function settleStarted(known: StoredRun, markersOf: MarkersOf): StoredRun {
    const run = store.get(known.run_id) ?? known;
    const folder = runFolder(stateDir, run.run_id);
    if (run.ended_at !== null || isGoingOn(run, folder)) return run;
    // Looked at again, for the wrapper may have written it and ended in between.
    const exitCode = readExitCode(folder);
    if (exitCode === undefined || run.stop_sent === 1) {
      const isLeft = processesOf(run.run_id, leaderOf(run)).length > 0;
      if (isLeft) return exitCode === undefined ? withoutWrapper(run) : run;
    }
    return finish(run, folder, exitCode, markersOf(run));
  }

  async function settleLaunch(run: StoredRun, folder: RunFolder): Promise<StoredRun> {
    if (deps.isLaunching(run.run_id)) return run;
    const launcher = JSON.parse(run.launcher) as ProcessIdentity;
    const isOurs = launcher.pid === deps.self.pid && launcher.startTime === deps.self.startTime;
    if (!isOurs && isAlive(launcher)) return run;
    if (await claimRun(folder)) return interrupted(run);
    return adopt(run, folder, launcher);
  }

  /** Only for a launch whose command has not been started and never will be: its token may start another. */
  function interrupted(run: StoredRun): StoredRun {
    return store.failLaunch(run.run_id, {
      status_reason: "Launch interrupted: the host-agent stopped before the command was started.",
      ended_at: now(),
    });
  }

  /** Takes over a run whose wrapper has claimed it, but whose process nobody recorded. */
  async function adopt(run: StoredRun, folder: RunFolder, launcher: ProcessIdentity): Promise<StoredRun> {
    let pid = readStarted(folder);
    for (let looks = 0; pid === undefined && looks < STARTED_LOOKS; looks++) {
      await new Promise((resolve) => setTimeout(resolve, STARTED_LOOK_INTERVAL_MS));
      pid = readStarted(folder);
    }
    const found = typeof pid === "number" ? pid : processesOf(run.run_id)[0]?.pid;
    // Asked after the processes: a wrapper that is gone writes no more.
    if (found === undefined && isClaimEmpty(folder) && launcher.bootId === currentBootId()) {
      return interrupted(run);
    }
    const isItsOwn = found !== undefined && hasEnvironmentEntry(found, `${RUN_ID_VARIABLE}=${run.run_id}`);
    const identity = isItsOwn ? identify(found) : undefined;
    return settle(
      store.update(run.run_id, {
        status: "running",
        status_reason: ALIVE,
        pid: found ?? null,
        pid_start: identity?.startTime ?? null,
        boot_id: identity?.bootId ?? null,
        log_file: logIdentity(run.log_path),
      }),
    );
  }

  function withoutWrapper(run: StoredRun): StoredRun {
    if (run.status !== "running" || run.status_reason === ORPHANED) return run;
    return store.update(run.run_id, { status_reason: ORPHANED });
  }

  function finish(
    run: StoredRun,
    folder: RunFolder,
    exitCode: number | undefined,
    markers: readonly RegExp[],
  ): StoredRun {
    const rebooted = run.boot_id !== null && run.boot_id !== currentBootId();
    const logCut = cutLogOf(run);
    const logTail = logCut ? "" : readTail(run.log_path, TAIL_BYTES);
    const stop = stopOf(run, exitCode);
    // What a power cut has left proves nothing.
    const launchedIn = run.boot_id ?? (JSON.parse(run.launcher) as ProcessIdentity).bootId;
    const isNeverStarted =
      exitCode === undefined && !stop && launchedIn === currentBootId() && isUntouched(folder);
    const outcome: Outcome = isNeverStarted
      ? NEVER_STARTED
      : classify({ exitCode, logTail, logCut, rebooted, markers, stop });
    const ended_at = exitCode === undefined ? now() : exitTime(folder);
    return store.update(run.run_id, { ...outcome, ended_at: Math.max(ended_at, run.started_at) });
  }

  return { settle, settleAll };
}

function isGoingOn(run: StoredRun, folder: RunFolder): boolean {
  return readExitCode(folder) === undefined && isAlive(identityOf(run));
}

/** The reason of a run whose process is alive. */
export const ALIVE = "The process is alive.";
const ORPHANED =
  "Processes of the run are alive, but the wrapper that would keep its exit code was killed on the host.";

const NEVER_STARTED: Outcome = {
  status: "failed",
  status_reason:
    "The command was never started: its wrapper ended before, killed on the host or without room on the disk.",
  exit_code: null,
  signal: null,
};

/** The recorded process of a run; one that can never be alive when none was recorded. */
function identityOf(run: StoredRun): ProcessIdentity {
  return { pid: run.pid ?? 0, startTime: run.pid_start ?? "", bootId: run.boot_id ?? "" };
}

/**
 * The wrapper's pid as the leader of the run's process group and session; only
 * while the wrapper itself holds it, alive or as a zombie: then no other group
 * can have this id.
 */
export function leaderOf(run: StoredRun): number | undefined {
  if (run.pid === null || run.boot_id !== currentBootId()) return undefined;
  return readStat(run.pid)?.startTime === run.pid_start ? run.pid : undefined;
}

/** Cuts the log of a run that is over its limit. True when it is. */
export function cutLogOf(run: StoredRun): boolean {
  if (run.log_limit === null || run.log_file === null) return false;
  return cutLog(run.log_path, run.log_limit, run.log_file);
}

/** The identity of the regular file at `path`; null when there is none. */
function logIdentity(path: string): string | null {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  return stats?.isFile() ? fileIdentity(stats) : null;
}

function stopOf(run: StoredRun, exitCode: number | undefined): Ending["stop"] {
  if (run.stop_cause === null || run.stop_signal === null) return undefined;
  // An agent that dies after it has sent a signal and before it has recorded that leaves the order and its effect.
  const isEffect = exitCode !== undefined && signalOfExitCode(exitCode) === run.stop_signal;
  if (run.stop_sent === 0 && !isEffect) return undefined;
  return {
    cause: run.stop_cause,
    signal: run.stop_signal,
    keyName: run.stop_key_name ?? "",
    timeoutSeconds: run.timeout_seconds ?? 0,
    logLimit: run.log_limit,
    escalated: run.stop_escalated === 1,
  };
}
