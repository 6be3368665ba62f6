import type { RunRecord } from "../../host-agent/protocol/run.ts";

/** True for a run whose command was never started, so that it has no log; its `status_reason` says why. */
export function neverStarted({ status, pid }: Pick<RunRecord, "status" | "pid">): boolean {
  return status === "failed" && pid === null;
}
