import { type RecordEvent } from "./audit-log.ts";
import { sha256 } from "../system/sha256.ts";
import type { Caller } from "../protocol/agent.ts";
import { ApiProblem } from "../protocol/problem.ts";
import type { LaunchOrder } from "../protocol/launch.ts";
import type { KillOrder, Source } from "../protocol/run.ts";
import type { Runs } from "../runs/runs.ts";

export type AuditedRuns = Omit<Runs, "kill"> & {
  kill(source: Source, runId: string, order: KillOrder, who: Caller): ReturnType<Runs["kill"]>;
};

/** The same runs, with every launch and kill recorded before it is answered, whatever its outcome. */
export function auditRuns(runs: Runs, record: RecordEvent): AuditedRuns {
  return {
    ...runs,

    async launch(order: LaunchOrder) {
      const { source, key_name, request_id = null, fingerprint } = order;
      const who = { source, key_name, request_id, request_sha256: fingerprint };
      try {
        const answer = await runs.launch(order);
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

    async kill(source, runId, order, { keyName, requestId = null }) {
      const who = {
        source,
        key_name: keyName,
        request_id: requestId,
        run_id: runId,
        signal: order.signal,
      };
      try {
        const run = await runs.kill(source, runId, order, keyName);
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
