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

/**
 * The agent refuses the edge's signature. The answer of the API names the cause as far as it is known: `clockSeconds` is how far
 * the edge's clock is ahead of the agent's, 0 when both agree. Only the agent's log has the exact reason.
 */
export function signatureRefused(clockSeconds: number): ApiProblem {
  const place = clockSeconds > 0 ? "ahead of" : "behind";
  const cause =
    clockSeconds === 0
      ? "The operator finds the reason in the log of the host-agent (event refused)"
      : `The clock of the edge is ${Math.abs(clockSeconds)} seconds ${place} the host's. The operator must set both clocks (NTP)`;
  const detail = `The host refused the signature of the edge. ${cause}`;
  return new ApiProblem("agent_error", detail, {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    cause: new Error(detail),
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
