import type { Run } from "../store/run.ts";
import type { Moment } from "../system/clock.ts";

/**
 * For how long a run has existed, in milliseconds: within a boot of the host by the time since the boot, which nobody can
 * set; else by the wall clock.
 */
export function ageOf(
  { startedAt, startedUptime, launcher }: Run,
  { now, bootId }: { now: Moment; bootId: string },
): number {
  return startedUptime !== undefined && launcher.bootId === bootId
    ? now.uptime - startedUptime
    : now.at - startedAt;
}
