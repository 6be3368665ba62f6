import { ApiProblem } from "../host-agent/protocol/problem.ts";

const RETRY_AFTER_SECONDS = 2;

/** The agent cannot be reached, or a gateway in front of it reports that. */
export function agentUnavailable(cause: unknown): ApiProblem {
  return new ApiProblem("agent_unavailable", "The host cannot be reached. Its runs continue. Try again", {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    cause,
  });
}

/** The agent has not answered in time. */
export function agentTimeout(cause: unknown): ApiProblem {
  return new ApiProblem("agent_timeout", "The host did not answer in time. Its runs continue. Try again", {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    cause,
  });
}

/** The answer is not one of the agent, or reports that the agent failed. */
export function agentError(cause: unknown): ApiProblem {
  return new ApiProblem(
    "agent_error",
    "The host gave no usable answer. The operator finds the cause in the log",
    {
      retryAfterSeconds: RETRY_AFTER_SECONDS,
      cause,
    },
  );
}
