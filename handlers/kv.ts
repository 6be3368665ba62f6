import { within } from "../host-agent/protocol/within.ts";

/**
 * The store in which the edge keeps replays. It promises no more than Workers KV:
 * a read may be stale, a write may be lost, and of two concurrent writes either may
 * win. So no effect may depend on it.
 */
export interface KV {
  /** The value; undefined when the key does not exist or has expired. */
  get(key: string): Promise<string | undefined>;
  /** Throws RangeError when `ttlSeconds` is under MIN_TTL_SECONDS. */
  put(key: string, value: string, options: { ttlSeconds: number }): Promise<void>;
}

/** The shortest time that Workers KV accepts. */
export const MIN_TTL_SECONDS = 60;

/** Throws RangeError for a time that Workers KV would refuse. Every implementation calls it. */
export function checkTtl(ttlSeconds: number): void {
  // Not `<`, which NaN would pass.
  if (!(ttlSeconds >= MIN_TTL_SECONDS)) {
    throw new RangeError(`ttlSeconds is ${ttlSeconds}; the least is ${MIN_TTL_SECONDS}`);
  }
}

/** A remembered answer is worth waiting for only while that is faster than asking the host. */
const MAX_WAIT_MS = 1_000;

/** The KV, but an operation that takes longer than MAX_WAIT_MS fails; a late write may still take place. */
export function impatientKV(kv: KV): KV {
  return {
    get: async (key) => within(MAX_WAIT_MS, async () => kv.get(key), tooSlow),
    put: async (key, value, options) => within(MAX_WAIT_MS, async () => kv.put(key, value, options), tooSlow),
  };
}

function tooSlow(): Error {
  return new Error(`the KV took more than ${MAX_WAIT_MS} ms`);
}
