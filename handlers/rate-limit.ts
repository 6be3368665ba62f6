/** How many names a limit remembers at most: those that were used longest ago are forgotten first. */
const MAX_NAMES = 10_000;
const MINUTE_MS = 60_000;

export type RateLimit = ReturnType<typeof rateLimit>;

/**
 * At most `perMinute` at once for each name, refilled evenly over a minute (a token bucket).
 * It is kept in this process: each edge counts for itself, and forgets on a restart.
 */
export function rateLimit(perMinute: number, now: () => number) {
  const buckets = new Map<string, { left: number; at: number }>();
  return {
    /** Takes one for `name`. Returns 0, or the seconds until there is one again. */
    take(name: string): number {
      const at = now();
      const last = buckets.get(name);
      // A clock that was set back gives nothing, and takes nothing.
      const refill = last ? (Math.max(0, at - last.at) * perMinute) / MINUTE_MS : 0;
      const left = last ? Math.min(perMinute, last.left + refill) : perMinute;
      const isTaken = left >= 1;
      buckets.delete(name);
      if (buckets.size >= MAX_NAMES) buckets.delete(buckets.keys().next().value!);
      buckets.set(name, { left: isTaken ? left - 1 : left, at });
      return isTaken ? 0 : Math.max(1, Math.ceil(((1 - left) * MINUTE_MS) / perMinute / 1000));
    },
  };
}

/**
 * What stands for a client's address: an IPv6 client has a whole /64 to choose
 * from, and IPv4 may be written as IPv6.
 */
export function addressName(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, "");
  if (!plain.includes(":")) return plain;
  const [head = "", tail] = plain.toLowerCase().split("%", 1)[0]!.split("::");
  const start = head === "" ? [] : head.split(":");
  const end = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - start.length - end.length);
  const groups = [...start, ...Array<string>(zeros).fill("0"), ...end].slice(0, 4);
  return `${groups.map((group) => group.replace(/^0+(?=.)/, "")).join(":")}::/64`;
}
