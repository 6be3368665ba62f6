/** The most names that a limit remembers; the least recently used are forgotten first. */
const MAX_NAMES = 10_000;
const MINUTE_MS = 60_000;

export type RateLimit = ReturnType<typeof rateLimit>;

/**
 * A token bucket for each name: at most `perMinute` at once, refilled evenly over a
 * minute. It is in this process: each edge counts separately, and forgets on a restart.
 */
export function rateLimit(perMinute: number, now: () => number) {
  const buckets = new Map<string, { left: number; at: number }>();
  return {
    /** Takes one token for `name`. Returns 0, or the seconds until the next token. */
    take(name: string): number {
      const at = now();
      const last = buckets.get(name);
      // A clock that is set back adds no tokens, and removes none.
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
 * The name under which a client's address is counted: an IPv6 client can use a
 * whole /64, and an IPv4 address may be written as an IPv6 one.
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
