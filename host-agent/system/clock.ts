import { uptime } from "node:os";

/** A moment by two clocks: the wall clock, which may be set, and the time since the host's boot, which only goes on. */
export interface Moment {
  /** Epoch milliseconds. */
  at: number;
  /** Milliseconds since the boot of the host, suspends included (CLOCK_BOOTTIME, time_namespaces(7)). */
  uptime: number;
}

/** Tells the time. */
export type Clock = () => Moment;

/** The clocks of this host. With `now`, a test's wall clock, both move together. */
export function hostClock(now: () => number = Date.now): Clock {
  if (now === Date.now) return () => ({ at: Date.now(), uptime: Math.floor(uptime() * 1000) });
  const difference = Date.now() - uptime() * 1000;
  return () => ({ at: now(), uptime: Math.floor(now() - difference) });
}

/** The moment that comes this many milliseconds after another one. */
export function after({ at, uptime: since }: Moment, milliseconds: number): Moment {
  return { at: at + milliseconds, uptime: since + milliseconds };
}
