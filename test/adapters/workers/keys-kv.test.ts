import { expect, test } from "vitest";

import { kvKeys } from "../../../adapters/workers/keys-kv.ts";
import { sha256 } from "../../../host-agent/system/sha256.ts";

const KEY = { name: "acme-prod", key: "sk_live_0123456789", scopes: ["*"] };
const FILE = JSON.stringify({ keys: [KEY] });
const MINUTE_MS = 60_000;

/** Workers KV may repeat its cached value for as long as the caller allowed. */
function staleNamespace(initial: string | null) {
  const world = { time: 0, value: initial, fails: false };
  let cached: { value: string | null; until: number } | undefined;
  return {
    world,
    async get(key: string, { cacheTtl }: { type: "text"; cacheTtl: number }) {
      expect(key).toBe("enterprise_keys");
      if (world.fails) throw new Error("KV is away");
      if (cached === undefined || cached.until <= world.time) {
        cached = { value: world.value, until: world.time + cacheTtl * 1000 };
      }
      return cached.value;
    },
  };
}

function keysOf(namespace: ReturnType<typeof staleNamespace>, devMode = false) {
  return kvKeys(namespace, { devMode, digest: sha256, now: () => namespace.world.time });
}

test("a Worker without keys in KV refuses every request, unless dev mode is set", async () => {
  for (const nothing of [null, JSON.stringify({ keys: [] })]) {
    expect(await keysOf(staleNamespace(nothing))()).toMatchObject({ mode: "unavailable" });
    expect(await keysOf(staleNamespace(nothing), true)()).toEqual({ mode: "dev" });
  }
});

test("a change of the keys in KV is in force within a minute, with any cache of KV", async () => {
  const namespace = staleNamespace(FILE);
  const keys = keysOf(namespace);
  const ring = await keys();
  expect(ring.mode === "enforced" && ring.keys.get(sha256(KEY.key))?.name).toBe("acme-prod");

  namespace.world.time = 1;
  namespace.world.value = JSON.stringify({ keys: [{ ...KEY, key: "sk_live_another_key" }] });
  const begin = namespace.world.time;
  for (; namespace.world.time <= begin + MINUTE_MS; namespace.world.time += 1_000) await keys();

  const changed = await keys();
  expect(changed.mode === "enforced" && [...changed.keys.keys()]).toEqual([sha256("sk_live_another_key")]);
});

test("the last good keys stay in force while KV fails or has malformed keys, and the health reports it", async () => {
  const namespace = staleNamespace(FILE);
  const keys = keysOf(namespace);
  await keys();

  namespace.world.time += MINUTE_MS;
  namespace.world.fails = true;
  expect(await keys()).toMatchObject({ mode: "enforced", problem: expect.stringContaining("last good") });

  namespace.world.time += MINUTE_MS;
  namespace.world.fails = false;
  namespace.world.value = "{";
  expect(await keys()).toMatchObject({ mode: "enforced", problem: expect.stringContaining("last good") });

  namespace.world.time += MINUTE_MS;
  namespace.world.value = FILE;
  expect((await keys()).problem).toBeUndefined();
});

test("a Worker whose KV fails from the start refuses every request, also in dev mode", async () => {
  const broken = staleNamespace("not JSON");
  expect(await keysOf(broken, true)()).toMatchObject({ mode: "unavailable" });
  const away = staleNamespace(FILE);
  away.world.fails = true;
  expect(await keysOf(away, true)()).toMatchObject({ mode: "unavailable" });
});

test("keys that are removed from KV are refused", async () => {
  const namespace = staleNamespace(FILE);
  const keys = keysOf(namespace);
  await keys();
  namespace.world.value = null;
  namespace.world.time += MINUTE_MS;
  expect(await keys()).toMatchObject({ mode: "unavailable" });
});
