import { chmodSync, existsSync, renameSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";

import { checkTtl, type KV } from "../../handlers/kv.ts";
import type { Log } from "../../host-agent/system/log-line.ts";
import { isDamaged } from "../../host-agent/store/sqlite-errors.ts";

/** After this many writes, the expired entries are deleted. */
const CLEAN_EVERY = 500;

/**
 * A KV in the SQLite file at `path`, for the Node adapter: it survives a restart. A
 * power failure may lose a write. A damaged file is renamed and replaced by a new
 * one, which `log` reports: no effect depends on the KV (handlers/kv.ts).
 */
export function sqliteKV(
  path: string,
  now: () => number = Date.now,
  log: Log = () => {},
): KV & { close(): void } {
  let table = repaired(() => openTable(path));
  let writes = 0;

  /** Does the work. If the file is damaged, does it once more with a new file. */
  function repaired<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (!isDamaged(error)) throw error;
      const aside = putAside(path, now());
      log({ level: "error", event: "kv_damaged", detail: `${path} is damaged and was renamed`, aside });
      return work();
    }
  }

  function use<T>(work: () => T): T {
    let isNew = true;
    return repaired(() => {
      if (!isNew) {
        table.close();
        table = openTable(path);
      }
      isNew = false;
      return work();
    });
  }

  return {
    async get(key) {
      return use(() => table.get(key, now()));
    },
    async put(key, value, { ttlSeconds }) {
      checkTtl(ttlSeconds);
      use(() => {
        table.put(key, value, now() + ttlSeconds * 1000);
        if (++writes % CLEAN_EVERY === 0) table.clean(now());
      });
    },
    close: () => table.close(),
  };
}

function openTable(path: string) {
  const db = new DatabaseSync(path, { timeout: 2_000 });
  try {
    // Its records contain arguments. SQLite gives -wal and -shm the same mode.
    chmodSync(path, 0o600);
    db.exec(`
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = NORMAL;
      CREATE TABLE IF NOT EXISTS kv (key TEXT PRIMARY KEY, value TEXT NOT NULL, expires_at INTEGER NOT NULL) STRICT;
      CREATE INDEX IF NOT EXISTS kv_expiry ON kv (expires_at);
    `);
    const select = db.prepare("SELECT value FROM kv WHERE key = ? AND expires_at > ?");
    const upsert = db.prepare("INSERT OR REPLACE INTO kv (key, value, expires_at) VALUES (?, ?, ?)");
    const clean = db.prepare("DELETE FROM kv WHERE expires_at <= ?");
    return {
      get: (key: string, now: number) => (select.get(key, now) as { value: string } | undefined)?.value,
      put: (key: string, value: string, expiresAt: number) => void upsert.run(key, value, expiresAt),
      clean: (now: number) => void clean.run(now),
      close: () => db.close(),
    };
  } catch (error) {
    db.close();
    throw error;
  }
}

/** Renames the file with its -wal and -shm. Returns the new name. */
function putAside(path: string, now: number): string {
  const aside = `${path}.damaged-${new Date(now).toISOString().replaceAll(/[:.]/g, "-")}`;
  for (const suffix of ["", "-wal", "-shm"]) {
    if (existsSync(path + suffix)) renameSync(path + suffix, aside + suffix);
  }
  return aside;
}
