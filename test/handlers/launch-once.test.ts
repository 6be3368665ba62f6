import { describe, expect, test } from "vitest";

import { memoryKV } from "../../adapters/node/kv-memory.ts";
import { checkIdempotencyKey, launchOnce, type OnceDeps } from "../../handlers/idempotency.ts";
import type { KV } from "../../handlers/kv.ts";
import type { Agent } from "../../host-agent/protocol/agent.ts";
import type { LaunchOrder, PreviewOrder } from "../../host-agent/protocol/launch.ts";
import { ApiProblem } from "../../host-agent/protocol/problem.ts";
import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { sha256 } from "../../host-agent/system/sha256.ts";
import { runRecord } from "../support/runs.ts";

const NOW = 1_800_000_000_000;
const HOUR_S = 3_600;
const ORDER = {
  source: "script",
  spec: { path: "/job.sh", args: "" },
  key_name: "acme-prod",
} as unknown as PreviewOrder;
/** The run that the agent starts for ORDER. */
const RUN = runRecord({ started_at: NOW / 1_000 });

/** An edge in front of an agent whose answers the test decides; it remembers what it was asked. */
function world({ kv = memoryKV({ now: () => NOW }), run = RUN }: { kv?: KV; run?: RunRecord } = {}) {
  const orders: LaunchOrder[] = [];
  const puts: [string, string, number][] = [];
  const errors: unknown[] = [];
  const state = {
    now: NOW,
    replayed: false,
    failure: undefined as Error | undefined,
    current: async (): Promise<RunRecord> => run,
  };
  const agent = {
    async launch(order: LaunchOrder) {
      orders.push(order);
      if (state.failure) throw state.failure;
      return { run, replayed: state.replayed };
    },
    getRun: async () => state.current(),
  } as unknown as Agent;
  const deps: OnceDeps = {
    agent,
    digest: sha256,
    kv: {
      get: (key) => kv.get(key),
      async put(key, value, options) {
        puts.push([key, value, options.ttlSeconds]);
        return kv.put(key, value, options);
      },
    },
    now: () => state.now,
    onKvError: (error) => errors.push(error),
  };
  const launch = (order: Partial<PreviewOrder> = {}, key: string | null = "k") =>
    launchOnce({ ...ORDER, ...order } as PreviewOrder, key, deps);
  return { launch, orders, puts, errors, state, deps };
}

describe("a launch with an Idempotency-Key", () => {
  test("is remembered in the KV for an hour, with the fingerprint and the run", async () => {
    const { launch, orders, puts } = world();
    expect(await launch()).toEqual({ run: RUN, from: "launch" });
    const { launch_token: token, fingerprint } = orders[0]!;
    const value = { fingerprint, expires_at: RUN.started_at + HOUR_S, run: RUN };
    expect(puts.map(([key, text, ttl]) => [key, JSON.parse(text) as object, ttl])).toEqual([
      [`replay:${token}`, value, HOUR_S],
    ]);
    expect(token).toBe(sha256("script\nacme-prod\nk"));
  });

  test("is replayed from the KV with the run's current record, and asks the agent for no launch", async () => {
    const { launch, orders, state } = world();
    await launch();
    const ended = { ...RUN, status: "completed" as const, ended_at: RUN.started_at + 1, exit_code: 0 };
    state.current = async () => ended;
    expect(await launch()).toEqual({ run: ended, from: "kv" });
    expect(orders).toHaveLength(1);
  });

  test("that the agent replays is reported as its replay", async () => {
    const { launch, state } = world();
    state.replayed = true;
    expect(await launch()).toEqual({ run: RUN, from: "agent" });
  });

  test("has another token for another key, caller or surface, and the same for the same", async () => {
    const { launch, orders } = world();
    await launch();
    await launch({}, "other");
    await launch({ key_name: "other-corp" });
    await launch({ source: "pipeline" });
    expect(new Set(orders.map(({ launch_token }) => launch_token)).size).toBe(4);
  });

  test("has the same fingerprint whatever the order of its fields, and another for each other field", async () => {
    const plain = await fingerprintOf({});
    expect(await fingerprintOf({ spec: { args: "", path: "/job.sh" } as never })).toBe(plain);
    expect(await fingerprintOf(params({ a: 1, b: 2 }))).toBe(await fingerprintOf(params({ b: 2, a: 1 })));
    const others: Partial<PreviewOrder>[] = [
      { spec: { path: "/job.sh", args: "x" } as never },
      { label: "l" },
      { callback_url: "https://client.example/" },
      params({ a: 1, b: 2 }),
      params({ a: 1, b: 3 }),
      { spec: { path: "/job.sh", args: "", terminal: true } as never },
      { spec: { path: "/job.sh", args: "", terminal: false } as never },
    ];
    const prints = await Promise.all(others.map(fingerprintOf));
    expect(new Set([plain, ...prints]).size).toBe(others.length + 1);
  });

  test("is no launch of the same run for another body: the agent decides", async () => {
    const { launch, orders } = world();
    await launch();
    await launch({ label: "other" });
    expect(orders).toHaveLength(2);
    expect(orders[0]!.launch_token).toBe(orders[1]!.launch_token);
  });

  test("is forgotten exactly an hour after the run started, also by a KV that forgets nothing", async () => {
    const { launch, orders, state } = world({ kv: memoryKV({ now: () => 0 }) });
    await launch();
    state.now = NOW + HOUR_S * 1_000 - 1;
    expect(await launch()).toMatchObject({ from: "kv" });
    state.now += 1;
    expect(await launch()).toMatchObject({ from: "launch" });
    expect(orders).toHaveLength(2);
  });
});

test("without an Idempotency-Key each launch has a separate token, and the KV is not asked", async () => {
  const { launch, orders, puts, state } = world({ kv: { get: fail, put: fail } });
  state.replayed = true;
  expect(await launch({}, null), "a second attempt of the edge").toEqual({ run: RUN, from: "launch" });
  await launch({}, null);
  expect(new Set(orders.map(({ launch_token }) => launch_token)).size).toBe(2);
  expect(puts).toEqual([]);
});

describe("a failed launch", () => {
  test.for(["agent_unavailable", "agent_timeout", "agent_error"] as const)(
    "without an Idempotency-Key, of which nobody knows what the host did (%s), says that the run may have been started",
    async (code) => {
      const { launch, state } = world();
      state.failure = new ApiProblem(code, "x", { retryAfterSeconds: 7 });
      await expect(launch({}, null)).rejects.toMatchObject({
        code,
        message: expect.stringContaining("may have been started"),
        extras: { retryAfterSeconds: 7 },
      });
    },
  );

  test("without an Idempotency-Key that the host refused, or that is a fault of ours, is passed on as it is", async () => {
    const { launch, state } = world();
    for (const failure of [new ApiProblem("too_many_runs", "x"), new TypeError("x")]) {
      state.failure = failure;
      await expect(launch({}, null)).rejects.toBe(failure);
    }
  });

  test("with an Idempotency-Key is passed on as it is: its retry is safe", async () => {
    const { launch, state } = world();
    state.failure = new ApiProblem("agent_timeout", "x");
    await expect(launch()).rejects.toBe(state.failure);
  });
});

describe("a record in the KV", () => {
  const FOREIGN: [string, Partial<RunRecord>][] = [
    ["another surface", { source: "pipeline" }],
    ["another caller", { key_name: "other-corp" }],
    ["another script", { spec: { path: "/other.sh", args: "" } }],
    ["another label", { label: "l" }],
    ["an earlier hour", { started_at: NOW / 1_000 - HOUR_S }],
  ];

  test.for(FOREIGN)(
    "of %s is never shown, neither as it is kept nor as the host has it",
    async ([, changes]) => {
      const foreign = runRecord({ ...RUN, run_id: "run_ffffffffffff", ...changes });
      const { launch, orders, state, deps } = world();
      await launch();
      const value = { fingerprint: orders[0]!.fingerprint, expires_at: NOW / 1_000 + HOUR_S, run: foreign };
      const key = `replay:${orders[0]!.launch_token}`;
      state.current = async () => RUN;
      await deps.kv.put(key, JSON.stringify(value), { ttlSeconds: HOUR_S });
      expect((await launch()).from, "as it is kept").toBe("launch");

      state.current = async () => foreign;
      expect((await launch()).from, "as the host has it").toBe("launch");
      expect((await launch()).run).toEqual(RUN);
    },
  );

  test("is not shown as stale to a key that does not reach everything: it may be out of reach by now", async () => {
    const { launch, state, deps } = world();
    await launch();
    deps.isReachLimited = true;
    const down = new ApiProblem("agent_unavailable", "x");
    state.current = async () => Promise.reject(down);
    state.failure = down;
    await expect(launch()).rejects.toBe(down);
  });

  test("is shown as stale when the host cannot be asked, and not when the host says that there is none", async () => {
    const { launch, state, orders } = world();
    await launch();
    for (const code of ["agent_unavailable", "host_unavailable", "agent_timeout", "agent_error"] as const) {
      state.current = async () => Promise.reject(new ApiProblem(code, "x"));
      expect(await launch(), code).toEqual({ run: RUN, from: "kv_stale" });
    }
    expect(orders).toHaveLength(1);
    state.current = async () => Promise.reject(new ApiProblem("run_not_found", "x"));
    expect(await launch()).toEqual({ run: RUN, from: "launch" });
    state.current = async () => Promise.reject(new TypeError("a fault of ours"));
    await expect(launch()).rejects.toThrow("a fault of ours");
  });

  test.for<[string, string, RegExp]>([
    ["is too long", textOf(1_048_577), /^Error: the KV's value is too long to be a record$/],
    ["has the greatest length, and another shape", textOf(1_048_576), /expected object/],
    ["is not JSON", "{", /^SyntaxError/],
    ["has another shape", "{}", /fingerprint/],
  ])("that %s is reported as a fault of the KV, and ignored", async ([, text, fault]) => {
    const { launch, errors, orders } = world({ kv: { get: async () => text, put: async () => {} } });
    expect(await launch()).toMatchObject({ from: "launch" });
    expect([errors.length, orders.length]).toEqual([1, 1]);
    expect(String(errors[0])).toMatch(fault);
  });

  test("that cannot be written or read is reported, and the launch goes on", async () => {
    const { launch, errors } = world({ kv: { get: fail, put: fail } });
    expect(await launch()).toMatchObject({ from: "launch" });
    expect(errors.map(String)).toEqual(["Error: the KV is down", "Error: the KV is down"]);
  });

  test("is used until the second in which it expires, whatever the start of its run", async () => {
    const { launch, orders, deps } = world({ kv: memoryKV({ now: () => 0 }) });
    await launch();
    const { fingerprint, launch_token: token } = orders[0]!;
    for (const [expiresIn, from] of [
      [1, "kv"],
      [0, "launch"],
    ] as const) {
      const value = JSON.stringify({ fingerprint, expires_at: NOW / 1_000 + expiresIn, run: RUN });
      await deps.kv.put(`replay:${token}`, value, { ttlSeconds: HOUR_S });
      expect(await launch(), String(expiresIn)).toMatchObject({ from });
    }
  });

  test("of another request is not used: the agent decides, also about one that its run would fit", async () => {
    const { launch, orders, deps } = world();
    await launch();
    const value = JSON.stringify({ fingerprint: "other", expires_at: NOW / 1_000 + HOUR_S, run: RUN });
    await deps.kv.put(`replay:${orders[0]!.launch_token}`, value, { ttlSeconds: HOUR_S });
    expect(await launch()).toMatchObject({ from: "launch" });
  });

  test("that is missing is no fault", async () => {
    const { launch, errors } = world();
    await launch();
    expect(errors).toEqual([]);
  });
});

describe("the value of an Idempotency-Key", () => {
  test.for(["k", " ~", "a, b", "a, b, a", "x".repeat(255)])("may be %s", (key) =>
    expect(checkIdempotencyKey(key)).toBe(key),
  );

  test.for([
    ["", "must be 1-255 characters"],
    ["x".repeat(256), "must be 1-255 characters"],
    ["\u00e9", "must be printable ASCII characters"],
    ["\u0416", "must be printable ASCII characters"],
    ["\u{1f600}", "must be printable ASCII characters"],
    ["a\ufffd", "must be printable ASCII characters"],
    ["a\tb", "must be printable ASCII characters"],
    ["a\x7f", "must be printable ASCII characters"],
    ["a, a", "is given more than once"],
    ["a, a, a", "is given more than once"],
  ])("may not be %s: %s", ([key, message]) => {
    const path = "header.idempotency-key";
    expect(() => checkIdempotencyKey(key!)).toThrow(
      expect.objectContaining({
        code: "malformed_request",
        message: `${path}: ${message}`,
        extras: { errors: [{ path, message }] },
      }),
    );
  });
});

/** What the agent gets as the fingerprint of this order. */
async function fingerprintOf(order: Partial<PreviewOrder>): Promise<string> {
  const { launch, orders } = world();
  await launch(order);
  return orders[0]!.fingerprint;
}

/** JSON of this number of characters. */
function textOf(length: number): string {
  return JSON.stringify("x".repeat(length - 2));
}

const params = (given: object) => ({ spec: { recipe_id: "r", args: "", params: given } as never });

async function fail(): Promise<never> {
  throw new Error("the KV is down");
}
