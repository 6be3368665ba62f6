import { describe, expect, test } from "vitest";

import type { KV } from "../../handlers/kv.ts";
import { needs } from "./needs.ts";

/** A KV to be tried, over a clock that the test moves. */
export interface OpenedKV extends AsyncDisposable {
  kv: KV;
}

export type OpenKV = (now: () => number) => Promise<OpenedKV>;

/** What every KV does. Not all of them let a test move their clock. */
export function kvContract(open: OpenKV, { movesClock = true } = {}): void {
  describe("KV", () => {
    let time = Date.now();
    const now = () => time;

    test("gives what was put last under exactly this key, and undefined for any other", async () => {
      await using opened = await open(now);
      const { kv } = opened;
      expect(await kv.get("key")).toBeUndefined();
      await kv.put("key", "one", { ttlSeconds: 60 });
      await kv.put("KEY", "other", { ttlSeconds: 60 });
      await kv.put("key", "two", { ttlSeconds: 60 });
      expect(await kv.get("key")).toBe("two");
      expect(await kv.get("KEY")).toBe("other");
      expect(await kv.get("ke")).toBeUndefined();
      expect(await kv.get("__proto__")).toBeUndefined();
    });

    test(
      "forgets a value when its time is over, counted from the last put",
      needs(movesClock, "a test cannot move the clock of this KV"),
      async () => {
        await using opened = await open(now);
        const { kv } = opened;
        await kv.put("key", "one", { ttlSeconds: 60 });
        time += 59_000;
        expect(await kv.get("key")).toBe("one");
        await kv.put("key", "two", { ttlSeconds: 60 });
        time += 59_000;
        expect(await kv.get("key")).toBe("two");
        time += 1_000;
        expect(await kv.get("key")).toBeUndefined();
      },
    );

    test("refuses a time under 60 seconds and keeps what it had", async () => {
      await using opened = await open(now);
      const { kv } = opened;
      await kv.put("key", "kept", { ttlSeconds: 60 });
      for (const ttlSeconds of [59, 59.999, 0, -1, Number.NaN]) {
        await expect(kv.put("key", "refused", { ttlSeconds })).rejects.toThrow(RangeError);
      }
      expect(await kv.get("key")).toBe("kept");
    });

    test("keeps any text: empty, with NUL and quotes, in any script, and 5 MB of it", async () => {
      await using opened = await open(now);
      const { kv } = opened;
      for (const value of ["", "a\0b", `'"\\; DROP TABLE kv; --`, "é한😀\u2028", "x".repeat(5_000_000)]) {
        await kv.put("key", value, { ttlSeconds: 60 });
        expect((await kv.get("key")) === value, `${value.length} characters come back`).toBe(true);
      }
      for (const key of ["é한😀", "a'b", "a b/../c"]) {
        await kv.put(key, key, { ttlSeconds: 60 });
        expect(await kv.get(key)).toBe(key);
      }
    });

    test("two values that are put at once leave one of the two", async () => {
      await using opened = await open(now);
      const { kv } = opened;
      const values = ["a".repeat(10_000), "b".repeat(10_000)];
      await Promise.all(values.map((value) => kv.put("key", value, { ttlSeconds: 60 })));
      expect(values).toContain(await kv.get("key"));
    });
  });
}
