// Without node:fs, so that a Worker can use it.

/** One line of the operator's log: how bad it is, what happened, and further fields. */
export interface LogEntry {
  level: "info" | "warn" | "error";
  event: string;
  [detail: string]: unknown;
}

/** Takes one entry of the operator's log. Never throws. */
export type Log = (entry: LogEntry) => void;

/** The entry as one line of JSON: `time` (ISO 8601, UTC), `level` and `event` first; no newline at its end. */
export function logLine({ level, event, ...details }: LogEntry, now: Date = new Date()): string {
  return JSON.stringify({ time: now.toISOString(), level, event, ...details });
}
