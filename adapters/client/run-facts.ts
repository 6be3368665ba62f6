import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { byteCount } from "./units.ts";

/** True for a run whose command was never started, so that it has no log; its `status_reason` says why. */
export function neverStarted({ status, pid }: Pick<RunRecord, "status" | "pid">): boolean {
  return status === "failed" && pid === null;
}

/** What a run used and left behind, each with its name; empty on a host that gives runs no cgroup, and before the end. */
export function usageFacts({
  usage,
  left_behind,
}: Pick<RunRecord, "usage" | "left_behind">): [name: string, value: string][] {
  const facts: [string, string][] = [];
  if (usage) facts.push(["CPU time", `${usage.cpu_seconds} s`]);
  if (usage && usage.memory_peak_bytes !== null)
    facts.push(["Memory peak", byteCount(usage.memory_peak_bytes)]);
  if (left_behind) facts.push(["Left behind", left_behind === 1 ? "1 process" : `${left_behind} processes`]);
  return facts;
}

/** The parameters and arguments of a launch on one line: `suite=nightly limit=5000 --verbose`; "" for none. */
export function launchWords({ spec }: Pick<RunRecord, "spec">): string {
  const params = "params" in spec ? Object.entries(spec.params ?? {}) : [];
  return [...params.map(([name, value]) => `${name}=${value}`), spec.args].join(" ").trim();
}
