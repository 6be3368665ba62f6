import { checkTtl, type KV } from "../../handlers/kv.ts";

/** A KV for tests and for a single process: it forgets everything on exit. Keeps at most `maxEntries`; the oldest are removed first. */
export function memoryKV({ now = Date.now, maxEntries = 10_000 } = {}): KV {
  const entries = new Map<string, { value: string; expiresAt: number }>();
  return {
    async get(key) {
      const entry = entries.get(key);
      if (entry && entry.expiresAt > now()) return entry.value;
      entries.delete(key);
      return undefined;
    },
    async put(key, value, { ttlSeconds }) {
      checkTtl(ttlSeconds);
      entries.delete(key);
      entries.set(key, { value, expiresAt: now() + ttlSeconds * 1000 });
      if (entries.size > maxEntries) entries.delete(entries.keys().next().value!);
    },
  };
}
