import type { Digest, KeyRing } from "../../handlers/auth.ts";
import { parseKeys } from "../../handlers/keys.ts";

/** The KV key that holds the JSON of the keys file. */
export const KEYS_KV_KEY = "enterprise_keys";

/** How long Workers KV may answer from its own cache: the shortest time that it accepts. */
const KV_CACHE_SECONDS = 30;
/** How long this cache is used. Both together are shorter than the promised minute. */
const OWN_CACHE_MS = 25_000;

/** The reading part of Workers KV; any object of this shape will do. */
export interface KeysNamespace {
  get(key: string, options: { type: "text"; cacheTtl: number }): Promise<string | null>;
}

/** How the keys in KV are read. */
export interface KvKeysOptions {
  /** Serve everyone while KV has no keys. */
  devMode: boolean;
  digest: Digest;
  now?: () => number;
  onError?: (error: unknown) => void;
}

/**
 * The keys in Workers KV. A change is in force within a minute. Without keys every
 * request is refused, unless `devMode` is set. While KV cannot be read, or its keys
 * are malformed, the last good keys stay in force; without any, every request is refused.
 */
export function kvKeys(
  namespace: KeysNamespace,
  { devMode, digest, now = Date.now, onError = () => {} }: KvKeysOptions,
): () => Promise<KeyRing> {
  let ring: KeyRing | undefined;
  let text: string | null | undefined;
  let readAt = Number.NEGATIVE_INFINITY;

  async function read(): Promise<KeyRing> {
    const current = await namespace.get(KEYS_KV_KEY, { type: "text", cacheTtl: KV_CACHE_SECONDS });
    if (ring !== undefined && ring.problem === undefined && current === text) return ring;
    text = current;
    const parsed: KeyRing = current === null ? { mode: "dev" } : await parseKeys(current, digest);
    return parsed.mode === "dev" && !devMode ? NO_KEYS : parsed;
  }

  return async () => {
    const age = now() - readAt;
    if (ring !== undefined && age >= 0 && age < OWN_CACHE_MS) return ring;
    readAt = now();
    try {
      ring = await read();
    } catch (error) {
      onError(error);
      ring =
        ring?.mode === "enforced"
          ? { ...ring, problem: "the keys in KV cannot be used; the last good keys stay in force" }
          : { mode: "unavailable", problem: "the keys in KV cannot be used; every request is refused" };
    }
    return ring;
  };
}

const NO_KEYS: KeyRing = { mode: "unavailable", problem: "KV has no keys; every request is refused" };
