import type { Ended, Observation } from "../executor/executor.ts";
import { readTail } from "../logs/log-file.ts";
import { cutLog } from "../logs/log-limit.ts";
import type { Run, RunChanges, Stop } from "../store/run.ts";
import { unreadableCode } from "../system/exhaustion.ts";
import type { Patience } from "../system/patience.ts";
import { signalOfExitCode } from "../system/signals.ts";
import { classify, type Ending, NEVER_STARTED, oomNote, type Outcome } from "./outcome.ts";

const TAIL_BYTES = 8_192;

/** The reason of a run whose process is alive. */
export const ALIVE = "The process is alive.";
const ORPHANED =
  "Processes of the run are alive, but the wrapper that would keep its exit code was killed on the host.";

/** The error markers that count for this run. */
export type MarkersOf = (run: Run) => readonly RegExp[];

/**
 * What an observation changes of a live run; undefined for nothing. Reads the log of a run that has ended. `now` in epoch
 * milliseconds. Throws the cause when the run could not be looked at.
 */
export function changesBy(
  run: Run,
  observation: Observation,
  { markersOf, now, patience }: { markersOf: MarkersOf; now: number; patience: Patience },
): RunChanges | undefined {
  const { state } = observation;
  if (state === "unavailable") throw observation.cause;
  if (state === "ended") {
    try {
      return endOf(run, observation, { markers: markersOf(run), now, patience });
    } catch (error) {
      const errno = unreadableCode(error);
      if (errno === undefined) throw error;
      return newReason(run, unreadable("log", errno));
    }
  }
  if (state === "unreadable") return newReason(run, unreadable("exit code", observation.errno));
  return state === "orphaned" && run.status === "running" ? newReason(run, ORPHANED) : undefined;
}

function newReason(run: Run, statusReason: string): RunChanges | undefined {
  return run.statusReason === statusReason ? undefined : { statusReason };
}

/** The reason of a run that has ended, as far as can be seen, while something that decides its status cannot be read. */
function unreadable(what: string, errno: string): string {
  return `Its ${what} cannot be read now (${errno}); the host-agent tries again for up to 5 minutes.`;
}

function endOf(
  run: Run,
  { exitCode, unreadable: errno, at, rebooted, commandStarted, execError, cgroup }: Ended,
  { markers, now, patience }: { markers: readonly RegExp[]; now: number; patience: Patience },
): RunChanges {
  const logCut = cutLogOf(run);
  const logTail = logCut ? "" : tailOf(run, { patience, rebooted });
  const stop = effectiveStop(run, exitCode);
  const outcome: Outcome =
    !commandStarted && !stop
      ? NEVER_STARTED
      : classify({
          exitCode,
          execError,
          unreadable: errno,
          logTail: logTail ?? "",
          logCut,
          logUnread: logTail === undefined,
          rebooted,
          isStartUnknown: run.process === undefined,
          markers,
          stop,
        });
  // The time of its file is what the run says. A clock that was set back makes no run end before it started.
  const endedAt = Math.max(Math.min(at ?? now, now), run.startedAt);
  if (cgroup === undefined) return { ...outcome, endedAt };
  const { oomKills, ...usage } = cgroup;
  return { ...outcome, statusReason: outcome.statusReason + oomNote(oomKills), endedAt, usage };
}

/** The end of the log; undefined once it could not be read for so long that the patience is over. Throws until then. */
function tailOf(
  { runId, logPath, logFile }: Run,
  { patience, rebooted }: { patience: Patience; rebooted: boolean },
): string | undefined {
  try {
    // A host that was restarted may have been restored from a copy, whose files have other inodes.
    const tail = readTail(logPath, TAIL_BYTES, rebooted ? undefined : logFile);
    patience.clear(runId);
    return tail;
  } catch (error) {
    if (unreadableCode(error) === undefined || !patience.isOver(runId)) throw error;
    return undefined;
  }
}

/** The stop that counts for the run's end: one whose signal was sent, or has had its effect. */
function effectiveStop(run: Run, exitCode: number | undefined): Ending["stop"] {
  const { stop } = run;
  if (stop === undefined) return undefined;
  if (!stop.sent && !isEffectOf(stop, exitCode)) return undefined;
  return { ...stop, timeoutSeconds: run.timeoutSeconds, logLimit: run.logLimit };
}

/**
 * Whether a command that ended so may have ended by the signal of the stop: an agent that dies after it has sent a signal and
 * before it has recorded that leaves the order and its effect.
 */
export function isEffectOf({ signal }: Stop, exitCode: number | undefined): boolean {
  return exitCode !== undefined && signalOfExitCode(exitCode) === signal;
}

/** Cuts the log of a run that is over its limit. True when it is. */
export function cutLogOf({ logPath, logLimit, logFile }: Run): boolean {
  return logLimit !== undefined && logFile !== undefined && cutLog(logPath, logLimit, logFile);
}
