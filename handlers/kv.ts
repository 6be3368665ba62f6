/**
 * The store the edge remembers in, asked for no more than Workers KV can give: a
 * read may be stale, a write may get lost, and of two racing writes either may
 * win. So nothing here may be the guard of an effect.
 */
export interface KV {
  /** The value, or undefined when there is none or its time is over. */
  get(key: string): Promise<string | undefined>;
  /** Throws RangeError when `ttlSeconds` is under MIN_TTL_SECONDS. */
  put(key: string, value: string, options: { ttlSeconds: number }): Promise<void>;
}

/** Workers KV keeps nothing for less. */
export const MIN_TTL_SECONDS = 60;

/** Throws RangeError for a time that Workers KV would refuse; every implementation asks here. */
export function checkTtl(ttlSeconds: number): void {
  if (ttlSeconds < MIN_TTL_SECONDS) {
    throw new RangeError(`ttlSeconds is ${ttlSeconds}; the least is ${MIN_TTL_SECONDS}`);
  }
}
