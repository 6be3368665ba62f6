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
 * The agent refuses the edge's signature. `clockSeconds` is how far the edge's clock is ahead of the agent's, 0 when both agree:
 * a difference is the likely cause, and the answer of the API names it. Any other cause is for the operator only: the log of the
 * agent has it.
 */
export function signatureRefused(clockSeconds: number): ApiProblem {
  if (clockSeconds === 0) {
    return agentError(
      new Error("the host-agent refuses the signature of the edge. Its log has the reason (event refused)"),
    );
  }
  const place = clockSeconds > 0 ? "ahead of" : "behind";
  const detail = `The clock of the edge is ${Math.abs(clockSeconds)} seconds ${place} the host's. The operator must set both clocks (NTP)`;
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

/**
 * The agent has no routes for a caller with a reach: it is an earlier version, and what it would answer without the reach is not for
 * this caller.
 */
export function reachNotUnderstood(cause: unknown): ApiProblem {
  return new ApiProblem(
    "host_unavailable",
    "The host-agent is an earlier version, which cannot limit this API key to what it may reach. Nothing was done. The operator must upgrade it",
    { retryAfterSeconds: 60, cause },
  );
}
