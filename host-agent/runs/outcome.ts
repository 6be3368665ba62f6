import type { Stop } from "../store/run.ts";
import { signalOfExitCode } from "../system/signals.ts";

/** How a run ended, as far as that is known. `undefined` code: nothing kept it. */
export interface Ending {
  exitCode: number | undefined;
  /** The errno for which its program could not be executed. */
  execError?: string | undefined;
  /** The errno for which the exit code could not be read. */
  unreadable?: string | undefined;
  /** The last bytes of the log, decoded leniently. */
  logTail: string;
  /** Set once the agent has sent a signal to the live run. */
  stop?: (Stop & StopLimits) | undefined;
  /** The log's end was not kept: it is over its limit. */
  logCut?: boolean;
  /** The log could not be read. */
  logUnread?: boolean;
  /** The host has been restarted since the run started. */
  rebooted: boolean;
  /** Nobody recorded a process of the run: the command may have run, or not. */
  isStartUnknown?: boolean;
  markers: readonly RegExp[];
}

/** The limits of the run, of which a stop may be the enforcement. */
export interface StopLimits {
  timeoutSeconds: number | undefined;
  /** In bytes. */
  logLimit: number | undefined;
}

export interface Outcome {
  status: "completed" | "failed" | "killed" | "unknown";
  statusReason: string;
  exitCode: number | undefined;
  signal: string | undefined;
}

/** The outcome of a run whose wrapper has ended without starting the command. */
export const NEVER_STARTED: Outcome = {
  status: "failed",
  statusReason:
    "The command was never started: its wrapper ended before, killed on the host or without room on the disk.",
  exitCode: undefined,
  signal: undefined,
};

const TAIL_LINES = 20;

/** The first of the log's last lines that one of the markers matches. */
export function findErrorLine(logTail: string, markers: readonly RegExp[]): string | undefined {
  const lines = logTail.split(/\r?\n/).filter((line) => line.trim() !== "");
  return lines.slice(-TAIL_LINES).find((line) => markers.some((marker) => marker.test(line)));
}

/**
 * The status of a run that is over. Success is never inferred: without an exit
 * code an error line makes it `failed`, and nothing else makes it more than
 * `unknown`.
 */
export function classify(ending: Ending): Outcome {
  const { exitCode } = ending;
  const signal = exitCode === undefined ? undefined : signalOfExitCode(exitCode);
  const facts = { exitCode, signal };

  if (ending.stop) return { ...facts, ...stopped(ending.stop), signal: signal ?? lastSignal(ending) };

  const errorLine = findErrorLine(ending.logTail, ending.markers);
  if (exitCode === undefined) return { ...facts, ...withoutExitCode(ending, errorLine) };
  if (exitCode !== 0 && ending.execError !== undefined) {
    return {
      ...facts,
      status: "failed",
      statusReason: `Its program could not be executed (${ending.execError}).`,
    };
  }
  if (exitCode !== 0) {
    const by = signal ? ` (${signal}, not sent through this API)` : "";
    return {
      ...facts,
      status: "failed",
      statusReason: `The command exited with code ${exitCode}${by}.${lostEnd(ending)}`,
    };
  }
  if (errorLine !== undefined) {
    return {
      ...facts,
      status: "failed",
      statusReason: `The command exited with code 0, but the end of its log has an error: ${clip(errorLine)}`,
    };
  }
  const statusReason = `The command exited with code 0.${unseenOf(ending)}${lostEnd(ending)}`;
  return { ...facts, status: "completed", statusReason };
}

/** What the kernel had not written to the disk when the host lost power is lost, though a client may have read it. */
function lostEnd({ rebooted }: Ending): string {
  return rebooted ? " The host was restarted since then: the end of its log may be missing." : "";
}

/** A sentence about processes that the kernel has killed for memory; "" for none. */
export function oomNote(kills: number): string {
  if (kills === 0) return "";
  const which = kills === 1 ? "one of its processes" : `${kills} of its processes`;
  return ` Out of memory: the kernel killed ${which}.`;
}

function stopped(stop: Stop & StopLimits): Pick<Outcome, "status" | "statusReason"> {
  const follow = stop.escalated ? ", then SIGKILL after the grace period" : "";
  if (stop.cause === "timeout") {
    return {
      status: "failed",
      statusReason: `It ran longer than its recipe's ${stop.timeoutSeconds} seconds and was sent ${stop.signal}${follow}.`,
    };
  }
  if (stop.cause === "log_limit") {
    return {
      status: "failed",
      statusReason: `Its log reached the limit of ${stop.logLimit} bytes, and it was sent ${stop.signal}${follow}.`,
    };
  }
  return { status: "killed", statusReason: `/kill by ${stop.keyName} sent ${stop.signal}${follow}.` };
}

/** The signal that a stopped run most likely ended by: asked for only when no exit code tells. */
function lastSignal({ exitCode, stop }: Ending): string | undefined {
  if (exitCode !== undefined || !stop) return undefined;
  return stop.escalated ? "SIGKILL" : stop.signal;
}

function withoutExitCode(
  ending: Ending,
  errorLine: string | undefined,
): Pick<Outcome, "status" | "statusReason"> {
  const gone = goneBecause(ending);
  if (errorLine !== undefined) {
    return {
      status: "failed",
      statusReason: `${gone}; the end of its log has an error: ${clip(errorLine)}`,
    };
  }
  return {
    status: "unknown",
    statusReason: `${gone}, and its log does not tell how it ended; ended_at is when this was noticed.${lostEnd(ending)}`,
  };
}

/** A sentence about an end of the log that was not searched. */
function unseenOf({ logCut, logUnread }: Ending): string {
  if (logCut) return " Its log is over the limit: the end, where an error might stand, was not kept.";
  return logUnread ? " Its log could not be read for 5 minutes and was not searched for errors." : "";
}

function goneBecause({ rebooted, unreadable, isStartUnknown }: Ending): string {
  if (unreadable !== undefined) {
    return `Its processes are gone and its exit code could not be read for 5 minutes (${unreadable})`;
  }
  if (!rebooted) return "Its processes are gone and left no exit code";
  return isStartUnknown
    ? "The host was restarted before its process was recorded, so it may have run"
    : "The host was restarted while it ran";
}

function clip(line: string): string {
  const oneLine = line.trim().replaceAll(/\p{Cc}/gu, " ");
  return oneLine.length > 200 ? `${oneLine.slice(0, 200)}…` : oneLine;
}
