import { DatabaseSync } from "node:sqlite";

import { checkTtl, type KV } from "../handlers/kv.ts";

/** Of so many writes, one also clears away what has expired. */
const CLEAN_EVERY = 500;

/**
 * A KV in the SQLite file at `path`, for the Node adapter: it survives a
 * restart. A write may be lost with the power: the KV is only a memory (handlers/kv.ts).
 */
export function sqliteKV(path: string, now: () => number = Date.now): KV & { close(): void } {
  const db = new DatabaseSync(path, { timeout: 2_000 });
  db.exec(`
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS kv (key TEXT PRIMARY KEY, value TEXT NOT NULL, expires_at INTEGER NOT NULL) STRICT;
    CREATE INDEX IF NOT EXISTS kv_expiry ON kv (expires_at);
  `);
  const select = db.prepare("SELECT value FROM kv WHERE key = ? AND expires_at > ?");
  const upsert = db.prepare("INSERT OR REPLACE INTO kv (key, value, expires_at) VALUES (?, ?, ?)");
  const clean = db.prepare("DELETE FROM kv WHERE expires_at <= ?");
  let writes = 0;
  return {
    async get(key) {
      return (select.get(key, now()) as { value: string } | undefined)?.value;
    },
    async put(key, value, { ttlSeconds }) {
      checkTtl(ttlSeconds);
      upsert.run(key, value, now() + ttlSeconds * 1000);
      if (++writes % CLEAN_EVERY === 0) clean.run(now());
    },
    close() {
      db.close();
    },
  };
}
