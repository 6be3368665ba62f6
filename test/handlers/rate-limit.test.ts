import { expect, test } from "vitest";

import { addressName, rateLimit } from "../../handlers/rate-limit.ts";
import { ALL, OTHER, startHub } from "../support/hub.ts";

const RUNS = "/api/v1/scripts/runs";

test("a key with too many requests gets 429 with Retry-After, and other keys, health and document do not", async () => {
  await using hub = await startHub({ env: { HUB_RATE_PER_KEY: "5" } });
  for (let i = 0; i < 5; i++) expect((await hub.get(RUNS)).status).toBe(200);

  const limited = await hub.get(RUNS);
  expect(limited).toMatchObject({ status: 429, json: { code: "rate_limited" } });
  expect(Number(limited.headers.get("retry-after"))).toBeGreaterThan(0);
  expect(Number(limited.headers.get("retry-after"))).toBeLessThanOrEqual(12);
  expect((await hub.get(RUNS, { key: OTHER.key })).status).toBe(200);
  for (let i = 0; i < 6; i++) {
    expect((await hub.get("/healthz")).status).toBe(200);
    expect((await hub.get("/openapi.json")).status).toBe(200);
  }
});

test("an address with many failed authentications gets 429, and a good key from it is still accepted", async () => {
  await using hub = await startHub({ env: { HUB_FAILED_AUTH_PER_MINUTE: "10" } });
  const statuses: number[] = [];
  for (let i = 0; i < 13; i++) statuses.push((await hub.get(RUNS, { key: `sk_wrong_${i}` })).status);
  expect(statuses).toEqual([...Array<number>(10).fill(401), 429, 429, 429]);

  const refused = await hub.get(RUNS, { key: null });
  expect(refused).toMatchObject({ status: 429, json: { code: "rate_limited" } });
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
  expect((await hub.get(RUNS, { key: ALL.key })).status).toBe(200);
});

test("used requests come back over a minute, also when the clock is set back", () => {
  let time = 0;
  const limit = rateLimit(2, () => time);
  expect([limit.take("a"), limit.take("a"), limit.take("a")]).toEqual([0, 0, 30]);
  time += 29_999;
  expect(limit.take("a")).toBe(1);
  time += 1;
  expect([limit.take("a"), limit.take("a")]).toEqual([0, 30]);
  time -= 1_000_000;
  expect(limit.take("a")).toBe(30);
  time += 30_000;
  expect([limit.take("a"), limit.take("a")]).toEqual([0, 30]);
});

test("a rate limit remembers a bounded number of names, and forgets idle ones before busy ones", () => {
  const limit = rateLimit(1, () => 0);
  limit.take("busy");
  for (let thousand = 0; thousand < 30; thousand++) {
    for (let i = 0; i < 1_000; i++) limit.take(`idle ${thousand * 1_000 + i}`);
    expect(limit.take("busy")).toBe(60);
  }
  expect(limit.take("idle 0")).toBe(0);
});

test.for([
  ["192.0.2.7", "192.0.2.7"],
  ["::ffff:192.0.2.7", "192.0.2.7"],
  ["2001:db8:0:1::7", "2001:db8:0:1::/64"],
  ["2001:DB8::1:0:0:7", "2001:db8:0:0::/64"],
  ["2001:db8:0:1:aaaa:bbbb:cccc:dddd", "2001:db8:0:1::/64"],
  ["::1", "0:0:0:0::/64"],
  ["fe80::1%eth0", "fe80:0:0:0::/64"],
])("the address %s counts as %s", ([address, name]) => {
  expect(addressName(address!)).toBe(name);
});
