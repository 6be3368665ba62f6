import { checkTtl, type KV } from "../../handlers/kv.ts";

/** The used part of a KVNamespace; any object of this shape will do. */
export interface Namespace {
  get(key: string): Promise<string | null>;
  put(key: string, value: string, options: { expirationTtl: number }): Promise<void>;
}

/** Workers KV: eventually consistent, at most one write a second for each key. Entries expire. */
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
