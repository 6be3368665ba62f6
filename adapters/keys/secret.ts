import { randomBytes } from "node:crypto";

import { sha256 } from "../../host-agent/system/sha256.ts";

/** A new key, and how an entry of the keys file stores it: as it is (`plain`), or its SHA-256 only. */
export function makeKey(plain: boolean) {
  const key = `sk_live_${randomBytes(32).toString("base64url")}`;
  return { key, stored: plain ? { key } : { key_sha256: sha256(key) } };
}

/** The day, as `created` has it. */
export function today(): string {
  return new Date().toISOString().slice(0, 10);
}
