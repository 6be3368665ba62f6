import { constants } from "node:os";

/** How a run ended, as far as that is known. `undefined` code: nothing kept it. */
export interface Ending {
  exitCode: number | undefined;
  /** The last bytes of the log, decoded leniently. */
  logTail: string;
  /** Set once the agent has sent a signal to the live run. */
  stop?: Stop | undefined;
  /** The log's end was not kept: it is over its limit. */
  logCut?: boolean;
  /** The host has been restarted since the run started. */
  rebooted: boolean;
  markers: readonly RegExp[];
}

export interface Stop {
  cause: "kill" | "timeout" | "log_limit";
  signal: string;
  /** The API key that asked for a kill. */
  keyName: string;
  /** The limit that a timeout enforces. */
  timeoutSeconds: number;
  /** The limit, in bytes, that a stop for the log's size enforces. */
  logLimit?: number | null;
  /** SIGKILL had to follow. */
  escalated: boolean;
}

export interface Outcome {
  status: "completed" | "failed" | "killed" | "unknown";
  status_reason: string;
  exit_code: number | null;
  signal: string | null;
}

const TAIL_LINES = 20;

const signalNames = new Map(Object.entries(constants.signals).map(([name, number]) => [number, name]));

/** The signal behind a shell's exit code of 128+n, or null for an ordinary code. */
export function signalOfExitCode(code: number): string | null {
  return code > 128 ? (signalNames.get(code - 128) ?? null) : null;
}

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
  const exit_code = ending.exitCode ?? null;
  const signal = exit_code === null ? null : signalOfExitCode(exit_code);
  const facts = { exit_code, signal };

  if (ending.stop) return { ...facts, ...stopped(ending.stop), signal: signal ?? lastSignal(ending) };

  const errorLine = findErrorLine(ending.logTail, ending.markers);
  if (exit_code === null) return { ...facts, ...withoutExitCode(ending, errorLine) };
  if (exit_code !== 0) {
    const by = signal ? `, as after ${signal}, which nobody sent through this API` : "";
    return { ...facts, status: "failed", status_reason: `The command exited with code ${exit_code}${by}.` };
  }
  if (errorLine !== undefined) {
    return {
      ...facts,
      status: "failed",
      status_reason: `The command exited with code 0, but the end of its log has an error: ${clip(errorLine)}`,
    };
  }
  const unseen = ending.logCut
    ? " Its log is over the limit: the end, where an error might stand, was not kept."
    : "";
  return { ...facts, status: "completed", status_reason: `The command exited with code 0.${unseen}` };
}

function stopped(stop: Stop): Pick<Outcome, "status" | "status_reason"> {
  const follow = stop.escalated ? ", then SIGKILL after the grace period" : "";
  if (stop.cause === "timeout") {
    return {
      status: "failed",
      status_reason: `It ran longer than its recipe's ${stop.timeoutSeconds} seconds and was sent ${stop.signal}${follow}.`,
    };
  }
  if (stop.cause === "log_limit") {
    return {
      status: "failed",
      status_reason: `Its log reached the limit of ${stop.logLimit} bytes, and it was sent ${stop.signal}${follow}.`,
    };
  }
  return { status: "killed", status_reason: `/kill by ${stop.keyName} sent ${stop.signal}${follow}.` };
}

/** The signal that a stopped run most likely ended by: asked for only when no exit code tells. */
function lastSignal({ exitCode, stop }: Ending): string | null {
  if (exitCode !== undefined || !stop) return null;
  return stop.escalated ? "SIGKILL" : stop.signal;
}

function withoutExitCode(
  ending: Ending,
  errorLine: string | undefined,
): Pick<Outcome, "status" | "status_reason"> {
  const gone = ending.rebooted
    ? "The host was restarted while it ran"
    : "Its processes are gone and left no exit code";
  if (errorLine !== undefined) {
    return {
      status: "failed",
      status_reason: `${gone}; the end of its log has an error: ${clip(errorLine)}`,
    };
  }
  return {
    status: "unknown",
    status_reason: `${gone}, and its log does not tell how it ended; ended_at is when this was noticed.`,
  };
}

function clip(line: string): string {
  const oneLine = line.trim().replaceAll(/\p{Cc}/gu, " ");
  return oneLine.length > 200 ? `${oneLine.slice(0, 200)}…` : oneLine;
}
