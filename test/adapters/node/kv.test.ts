import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { memoryKV } from "../../../adapters/node/kv-memory.ts";
import { sqliteKV } from "../../../adapters/node/kv-sqlite.ts";
import { kvContract } from "../../support/kv-contract.ts";

describe("the KV in memory", () => {
  kvContract(async (now) => ({ kv: memoryKV({ now }), async [Symbol.asyncDispose]() {} }));

  test("keeps a bounded number of entries and removes the oldest first", async () => {
    const kv = memoryKV({ maxEntries: 2 });
    for (const key of ["a", "b", "a", "c"]) await kv.put(key, key, { ttlSeconds: 60 });
    expect([await kv.get("a"), await kv.get("b"), await kv.get("c")]).toEqual(["a", undefined, "c"]);
  });
});

describe("the KV in SQLite", () => {
  kvContract(async (now) => {
    const { path, remove } = await emptyFolder();
    const kv = sqliteKV(path, now);
    return {
      kv,
      async [Symbol.asyncDispose]() {
        kv.close();
        await remove();
      },
    };
  });

  test("has every entry after it was closed and opened again", async () => {
    const { path, remove } = await emptyFolder();
    let time = Date.now();
    const first = sqliteKV(path, () => time);
    await first.put("short", "1", { ttlSeconds: 60 });
    await first.put("long", "2", { ttlSeconds: 3_600 });
    first.close();
    time += 61_000;
    const second = sqliteKV(path, () => time);
    expect(await second.get("short")).toBeUndefined();
    expect(await second.get("long")).toBe("2");
    second.close();
    await remove();
  });

  test("is closed to other users, with any folder and umask", async () => {
    const { path, remove } = await emptyFolder();
    const kv = sqliteKV(path);
    await kv.put("a", "1", { ttlSeconds: 60 });
    for (const suffix of ["", "-wal", "-shm"]) expect((await stat(path + suffix)).mode & 0o777).toBe(0o600);
    kv.close();
    await remove();
  });

  test("two connections to one file see each other's writes", async () => {
    const { path, remove } = await emptyFolder();
    const one = sqliteKV(path);
    const two = sqliteKV(path);
    await one.put("key", "from one", { ttlSeconds: 60 });
    expect(await two.get("key")).toBe("from one");
    await two.put("key", "from two", { ttlSeconds: 60 });
    expect(await one.get("key")).toBe("from two");
    one.close();
    two.close();
    await remove();
  });

  test("deletes expired entries, so that its file does not grow forever", async () => {
    const { path, remove } = await emptyFolder();
    let time = Date.now();
    const kv = sqliteKV(path, () => time);
    const fill = async (round: number) => {
      for (let i = 0; i < 500; i++) await kv.put(`${round}-${i}`, "x".repeat(1_000), { ttlSeconds: 60 });
      time += 61_000;
    };
    await fill(0);
    await fill(1);
    const { size } = await stat(path);
    for (let round = 2; round < 8; round++) await fill(round);
    expect((await stat(path)).size).toBeLessThan(3 * size);
    kv.close();
    await remove();
  });
});

async function emptyFolder() {
  const folder = await mkdtemp(join(tmpdir(), "kv-"));
  return { path: join(folder, "kv.db"), remove: () => rm(folder, { recursive: true }) };
}
