import type { RunRecord } from "../../host-agent/protocol/run.ts";

/** True for a run whose command was never started, so that it has no log; its `status_reason` says why. */
export function neverStarted({ status, pid }: Pick<RunRecord, "status" | "pid">): boolean {
  return status === "failed" && pid === null;
}

/** The parameters and arguments of a launch on one line: `suite=nightly limit=5000 --verbose`; "" for none. */
export function launchWords({ spec }: Pick<RunRecord, "spec">): string {
  const params = "params" in spec ? Object.entries(spec.params ?? {}) : [];
  return [...params.map(([name, value]) => `${name}=${value}`), spec.args].join(" ").trim();
}
