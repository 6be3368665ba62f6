import { type RecordEvent } from "./audit-log.ts";
import type { Agent } from "../protocol/agent.ts";
import { ApiProblem } from "../protocol/problem.ts";
import { sha256 } from "../system/sha256.ts";

/** The same operations, with every launch and kill recorded before it is answered, whatever its outcome. */
export function auditOperations(operations: Agent, record: RecordEvent): Agent {
  return {
    ...operations,

    within: (reach) => auditOperations(operations.within(reach), record),

    async launch(order, signal) {
      const { source, key_name, request_id = null, fingerprint } = order;
      const who = { source, key_name, request_id, request_sha256: fingerprint };
      try {
        const answer = await operations.launch(order, signal);
        const { run_id, cmd } = answer.run;
        const what = answer.replayed
          ? { event: "replay", outcome: "replayed" }
          : { event: "launch", outcome: "started" };
        record({ ...what, ...who, run_id, argv_sha256: sha256(cmd) });
        return answer;
      } catch (error) {
        record({ event: "launch", outcome: codeOf(error), ...who, run_id: null, argv_sha256: null });
        throw error;
      }
    },

    async killRun(source, runId, order, caller) {
      const who = {
        source,
        key_name: caller.keyName,
        request_id: caller.requestId ?? null,
        run_id: runId,
        signal: order.signal,
      };
      try {
        const run = await operations.killRun(source, runId, order, caller);
        record({ event: "kill", outcome: run.status, ...who, argv_sha256: sha256(run.cmd) });
        return run;
      } catch (error) {
        record({ event: "kill", outcome: codeOf(error), ...who, argv_sha256: null });
        throw error;
      }
    },
  };
}

function codeOf(error: unknown): string {
  return error instanceof ApiProblem ? error.code : "internal";
}
