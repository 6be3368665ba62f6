import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { rememberHealth } from "../../handlers/remember-health.ts";
import type { Agent } from "../../host-agent/protocol/agent.ts";
import type { AgentHealth } from "../../host-agent/protocol/health.ts";

const WELL: AgentHealth = { status: "ok", problems: [], running: 0 };

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** An agent that is asked for its health, and how often it was. */
function world(isOneProcess: boolean) {
  const asked: PromiseWithResolvers<AgentHealth>[] = [];
  const agent = {
    health() {
      asked.push(Promise.withResolvers());
      return asked.at(-1)!.promise;
    },
  } as Agent;
  return { asked, ask: () => rememberHealth(agent, { isOneProcess }).health, agent };
}

test("many health checks cost the agent one question a second, also while it does not answer", async () => {
  const { asked, ask } = world(true);
  const health = ask();
  const many = [health(), health(), health()];
  vi.advanceTimersByTime(5_000);
  many.push(health());
  expect(asked).toHaveLength(1);
  asked[0]!.resolve(WELL);
  expect(await Promise.all(many)).toEqual([WELL, WELL, WELL, WELL]);
  expect(await health()).toBe(WELL);
  vi.advanceTimersByTime(1_000);
  void health();
  expect(asked).toHaveLength(2);
});

test("a failed health check is remembered as long as a good one, and is not reported for longer", async () => {
  const { asked, ask } = world(true);
  const health = ask();
  const first = health();
  asked[0]!.reject(new Error("away"));
  await expect(first).rejects.toThrow("away");
  await expect(health()).rejects.toThrow("away");
  vi.advanceTimersByTime(1_000);
  const second = health();
  asked[1]!.resolve(WELL);
  expect(await second).toBe(WELL);
});

test("on a Worker no request waits for what another one has begun, and an answer is used again", async () => {
  const { asked, ask } = world(false);
  const health = ask();
  const both = [health(), health()];
  expect(asked).toHaveLength(2);
  for (const each of asked) each.resolve(WELL);
  await Promise.all(both);
  expect(await health()).toBe(WELL);
  expect(asked).toHaveLength(2);
});
