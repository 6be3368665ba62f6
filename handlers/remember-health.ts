import type { AgentHealth } from "../host-agent/protocol/health.ts";
import type { Agent } from "../host-agent/protocol/agent.ts";

/** For how long an answer about the agent's health, or its failure, is given again. */
const FRESH_MS = 1_000;

/**
 * The agent, asked for its health at most once a second: /healthz is public, and every
 * question costs a remote agent the check of a signature. With `isOneProcess`
 * requests also share a question that is under way; a Worker must not wait for what another request has begun.
 */
export function rememberHealth(agent: Agent, { isOneProcess }: { isOneProcess: boolean }): Agent {
  let last: { answer: Promise<AgentHealth>; until: number } | undefined;
  return {
    ...agent,
    async health() {
      if (last !== undefined && performance.now() < last.until) return last.answer;
      const answer = agent.health();
      if (isOneProcess) last = { answer, until: Number.POSITIVE_INFINITY };
      await answer.catch(() => undefined);
      last = { answer, until: performance.now() + FRESH_MS };
      return answer;
    },
  };
}
