import { writeSync } from "node:fs";

/** Takes one entry of the log, which is never empty. */
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
      pending += `{"time":"${new Date().toISOString()}",${JSON.stringify(entry).slice(1)}\n`;
    },
    flush,
  };
}
