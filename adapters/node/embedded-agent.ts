import { agentError } from "../../handlers/agent-problems.ts";
import { failureOf } from "../../host-agent/door/failure.ts";
import type { Agent } from "../../host-agent/protocol/agent.ts";

/**
 * The agent of this process for the handlers: it throws the same problems as an
 * agent behind HTTP.
 */
export function embeddedAgent(agent: Agent): Agent {
  return {
    within: (reach) => embeddedAgent(agent.within(reach)),
    health: plain(agent.health),
    listRecipes: plain(agent.listRecipes),
    listScripts: plain(agent.listScripts),
    readScript: plain(agent.readScript),
    launch: plain(agent.launch),
    previewLaunch: plain(agent.previewLaunch),
    listRuns: plain(agent.listRuns),
    getRun: plain(agent.getRun),
    killRun: plain(agent.killRun),
    readLog: plain(agent.readLog),
  };
}

function plain<A extends unknown[], R>(operation: (...args: A) => Promise<R>): (...args: A) => Promise<R> {
  return async (...args) => {
    try {
      return await operation(...args);
    } catch (thrown) {
      const problem = failureOf(thrown);
      throw problem.code === "internal" ? agentError(problem.extras.cause) : problem;
    }
  };
}
