/** Each key has a line in the audit log for this many refusals a minute; the rest are counted, or anybody could fill the disk. */
const REFUSALS_PER_MINUTE = 100;
const MINUTE_MS = 60_000;

export type RefusalShare = ReturnType<typeof refusalShare>;

/**
 * Decides which refusals of a minute are recorded one by one. Each key has its own
 * share, and so has everybody without a good key: a flood from one hides no refusal of another.
 */
export function refusalShare(now: () => number) {
  let since = now();
  let counts = new Map<string, number>();

  return {
    /** Counts one refusal of this key ("" for none). True when it is to be recorded. */
    take(keyName: string): boolean {
      const count = (counts.get(keyName) ?? 0) + 1;
      counts.set(keyName, count);
      return count <= REFUSALS_PER_MINUTE;
    },
    isMinuteOver: () => Math.abs(now() - since) >= MINUTE_MS,
    /** Begins a new minute. Returns how many refusals of the old one were not recorded. */
    endMinute(): number {
      const unrecorded = [...counts.values()].map((count) => Math.max(0, count - REFUSALS_PER_MINUTE));
      since = now();
      counts = new Map();
      return unrecorded.reduce((sum, count) => sum + count, 0);
    },
  };
}
