import { ApiProblem } from "../host-agent/protocol/problem.ts";

const RETRY_AFTER_SECONDS = 2;

/** The agent could not be reached, or somebody between us and it says so. */
export function agentUnavailable(cause: unknown): ApiProblem {
  return new ApiProblem("agent_unavailable", "The host cannot be reached; its runs go on. Try again", {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    cause,
  });
}

/** The agent has not answered in time. */
export function agentTimeout(cause: unknown): ApiProblem {
  return new ApiProblem("agent_timeout", "The host did not answer in time; its runs go on. Try again", {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    cause,
  });
}

/** What came was no answer of the agent, or one that says that it failed. */
export function agentError(cause: unknown): ApiProblem {
  return new ApiProblem("agent_error", "The host gave no usable answer; the operator's log says more", {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    cause,
  });
}
