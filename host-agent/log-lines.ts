import { writeSync } from "node:fs";

/** Takes one entry of the log. */
export type Log = (entry: Record<string, unknown>) => void;

/**
 * Writes one JSON line an entry to a file descriptor, many at a time: a line is
 * written within a turn of the event loop, and at `flush`. A line that cannot be written is lost.
 */
export function logLines(fd: number) {
  let pending = "";
  function flush(): void {
    const lines = pending;
    pending = "";
    try {
      writeSync(fd, lines);
    } catch {
      // A full pipe or a closed terminal must not stop the service.
    }
  }
  return {
    log(entry: Record<string, unknown>): void {
      if (pending === "") setImmediate(flush);
      pending += `${JSON.stringify({ time: new Date().toISOString(), ...entry })}\n`;
    },
    flush,
  };
}
