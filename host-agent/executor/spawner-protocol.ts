import { ApiProblem, type ProblemCode } from "../protocol/problem.ts";
import type { Command, Started } from "./executor.ts";
import type { sendSignalAs } from "./send-signal.ts";
import type { StartInCgroup } from "./start-in-cgroup.ts";

/** What the spawner does for the agent. */
export interface SpawnerCalls {
  startRun: (command: Command, options: StartInCgroup) => Promise<Started>;
  sendSignalAs: typeof sendSignalAs;
}

/** What the agent asks of the spawner: a call with its arguments, under its own number. */
export type SpawnerRequest = {
  [Call in keyof SpawnerCalls]: { id: number; call: Call; args: Parameters<SpawnerCalls[Call]> };
}[keyof SpawnerCalls];

/** What the spawner answers to the request with this number. */
export type SpawnerAnswer = { id: number } & (
  | { result: unknown }
  | {
      problem: {
        code: ProblemCode;
        message: string;
        retryAfterSeconds: number | undefined;
        cause: string | undefined;
      };
    }
);

/** The wrapper that the request with this number started has ended. */
export interface SpawnerEnd {
  ended: number;
}

/** The answer that reports a failure. */
export function refusal(id: number, error: unknown): SpawnerAnswer {
  const problem = error instanceof ApiProblem ? error : new ApiProblem("internal", String(error));
  const { code, message, extras } = problem;
  const { retryAfterSeconds, cause } = extras;
  return {
    id,
    problem: { code, message, retryAfterSeconds, cause: textOf(cause) },
  };
}

function textOf(cause: unknown): string | undefined {
  if (typeof cause === "string") return cause;
  return cause instanceof Error ? String(cause) : undefined;
}

/** The result of the call as its caller would see it. */
export function resultOf(answer: SpawnerAnswer): unknown {
  if ("result" in answer) return answer.result;
  const { code, message, retryAfterSeconds, cause } = answer.problem;
  throw new ApiProblem(code, message, {
    ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
    ...(cause !== undefined && { cause }),
  });
}
