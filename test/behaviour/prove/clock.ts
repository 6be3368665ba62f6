import { readFileSync } from "node:fs";
import { uptime } from "node:os";

import type { Clock } from "../../../host-agent/system/clock.ts";

/** A clock that runs ahead of the real one by as many milliseconds as the file at `path` says. */
export function offsetClock(path: string): () => number {
  return () => Date.now() + Number(readFileSync(path, "utf8"));
}

/** What a host's clocks show beyond the real time, in milliseconds. */
export interface Ahead {
  /** Time that is taken to have passed: both clocks show it. */
  passed: number;
  /** By how much somebody has set the wall clock ahead, or back: the time since the boot does not show it. */
  set: number;
}

/** Two clocks that are ahead of the real ones by what the file at `path` says. */
export function movableClocks(path: string): { now(): number; clock: Clock } {
  const read = () => readAhead(readFileSync(path, "utf8"));
  return {
    now: () => wall(read()),
    clock() {
      const ahead = read();
      return { at: wall(ahead), uptime: Math.floor(uptime() * 1000) + ahead.passed };
    },
  };
}

function wall({ passed, set }: Ahead): number {
  return Date.now() + passed + set;
}

/** The file's content for this. */
export function aheadText({ passed, set }: Ahead): string {
  return `${passed} ${set}\n`;
}

function readAhead(text: string): Ahead {
  const [passed, set] = text.split(" ").map(Number) as [number, number];
  return { passed, set };
}
