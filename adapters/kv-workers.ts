import { checkTtl, type KV } from "../handlers/kv.ts";

/** Workers KV: eventually consistent, one write a second for a key, and gone with its time. */
export function workersKV(namespace: KVNamespace): KV {
  return {
    async get(key) {
      return (await namespace.get(key)) ?? undefined;
    },
    async put(key, value, { ttlSeconds }) {
      checkTtl(ttlSeconds);
      await namespace.put(key, value, { expirationTtl: ttlSeconds });
    },
  };
}
