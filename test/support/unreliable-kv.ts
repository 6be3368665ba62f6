import { checkTtl, type KV } from "../../handlers/kv.ts";

/** For so long may a location of Workers KV repeat what it once read. */
export const MAX_STALE_MS = 60_000;
/** Workers KV takes one write a second for a key. */
const WRITE_INTERVAL_MS = 1_000;

export interface UnreliableOptions {
  now(): number;
  /** From 0 up to 1, as Math.random; the same sequence gives the same troubles. */
  random(): number;
  /** How many of the writes get lost without a word, from 0 to 1. */
  lossRate?: number;
}

/**
 * A namespace of Workers KV as it really is. Each location repeats for up to a
 * minute what it has read once, also that there was nothing; writes get lost;
 * a second write of a key within a second is refused, and so is a time to live
 * under a minute.
 */
export function unreliableNamespace({ now, random, lossRate = 0.2 }: UnreliableOptions) {
  const stored = new Map<string, { value: string; expiresAt: number }>();
  const writtenAt = new Map<string, number>();
  const count = { reads: 0, stale: 0, writes: 0, lost: 0, refused: 0 };

  function look(key: string): string | undefined {
    const entry = stored.get(key);
    return entry && entry.expiresAt > now() ? entry.value : undefined;
  }

  return {
    count,
    /** The namespace as one place in the world sees it. */
    location(): KV {
      const cached = new Map<string, { value: string | undefined; until: number }>();
      return {
        async get(key) {
          count.reads++;
          const known = cached.get(key);
          if (known && known.until > now()) {
            if (known.value !== look(key)) count.stale++;
            return known.value;
          }
          const value = look(key);
          cached.set(key, { value, until: now() + random() * MAX_STALE_MS });
          return value;
        },
        async put(key, value, { ttlSeconds }) {
          checkTtl(ttlSeconds);
          count.writes++;
          if (now() - (writtenAt.get(key) ?? -Infinity) < WRITE_INTERVAL_MS) {
            count.refused++;
            throw new Error("KV PUT failed: 429 Too Many Requests");
          }
          writtenAt.set(key, now());
          if (random() < lossRate) count.lost++;
          else stored.set(key, { value, expiresAt: now() + ttlSeconds * 1000 });
        },
      };
    },
  };
}

/** Numbers from 0 up to 1 that look random and are the same for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
