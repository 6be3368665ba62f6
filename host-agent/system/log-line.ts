// Without node:fs, so that a Worker can use it.

/** One line of the operator's log: how bad it is, what happened, and further fields. */
export interface LogEntry {
  level: "info" | "warn" | "error";
  event: string;
  [detail: string]: unknown;
}

/** Takes one entry of the operator's log. Never throws. */
export type Log = (entry: LogEntry) => void;

/** What the JSON of an entry begins with when its callers name the level and then the event. */
const IN_ORDER = /^\{"level":"\w+","event":"/;

/** The entry as one line of JSON: `time` (ISO 8601, UTC), `level` and `event` first; no newline at its end. */
export function logLine(entry: LogEntry, now: Date = new Date()): string {
  const json = JSON.stringify(entry);
  // Each request writes a line: an entry in the right order is not copied.
  if (IN_ORDER.test(json)) return `{"time":"${now.toISOString()}",${json.slice(1)}`;
  const { level, event, ...details } = entry;
  return JSON.stringify({ time: now.toISOString(), level, event, ...details });
}
