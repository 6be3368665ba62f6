import { checkTtl, type KV } from "../../handlers/kv.ts";

/** What of a KVNamespace is used; any object of this shape will do. */
export interface Namespace {
  get(key: string): Promise<string | null>;
  put(key: string, value: string, options: { expirationTtl: number }): Promise<void>;
}

/** Workers KV: eventually consistent, one write a second for a key, and gone with its time. */
export function workersKV(namespace: Namespace): KV {
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
