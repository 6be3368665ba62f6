import { ApiProblem, type ProblemCode } from "../protocol/problem.ts";
import type { Started } from "./executor.ts";
import type { StartRun } from "./start-run.ts";

/** What the agent asks of the spawner: the arguments of `startRun`, under its own number. */
export interface StartRequest {
  id: number;
  args: Parameters<StartRun>;
}

/** What the spawner answers to the request with this number. */
export type StartAnswer = { id: number } & (
  | { started: Started }
  | {
      problem: {
        code: ProblemCode;
        message: string;
        retryAfterSeconds: number | undefined;
        cause: string | undefined;
      };
    }
);

/** The answer that reports a failure. */
export function refusal(id: number, error: unknown): StartAnswer {
  const problem = error instanceof ApiProblem ? error : new ApiProblem("internal", String(error));
  const { code, message, extras } = problem;
  const { retryAfterSeconds, cause } = extras;
  return {
    id,
    problem: { code, message, retryAfterSeconds, cause: cause instanceof Error ? String(cause) : undefined },
  };
}

/** The result of `startRun` as its caller would see it. */
export function resultOf(answer: StartAnswer): Started {
  if ("started" in answer) return answer.started;
  const { code, message, retryAfterSeconds, cause } = answer.problem;
  throw new ApiProblem(code, message, {
    ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
    ...(cause !== undefined && { cause }),
  });
}
