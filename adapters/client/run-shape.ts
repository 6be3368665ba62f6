import { RUN_ID } from "../../host-agent/protocol/limits.ts";
import type { RunRecord } from "../../host-agent/protocol/run.ts";

const TEXTS = [
  "cmd",
  "log_path",
  "key_name",
  "status",
  "status_reason",
] as const satisfies (keyof RunRecord)[];

/**
 * Which fields of a record, as an answer has it, are not what the API promises; "" for none. Commands and links are made of
 * the id and the times, so another server's text must not pass for them.
 */
export function faultyFields(run: Partial<RunRecord>): string {
  const { run_id, source, spec, started_at, ended_at, exit_code } = run;
  const isSpec = typeof spec === "object" && spec !== null && "args" in spec;
  const name = isSpec && ("recipe_id" in spec ? spec.recipe_id : spec.path);
  const checks: Record<string, boolean> = {
    run_id: typeof run_id === "string" && RUN_ID.test(run_id),
    source: source === "pipeline" || source === "script",
    spec: typeof name === "string" && typeof spec?.args === "string",
    started_at: Number.isFinite(started_at),
    ended_at: ended_at === null || Number.isFinite(ended_at),
    exit_code: exit_code === null || Number.isInteger(exit_code),
    ...Object.fromEntries(TEXTS.map((field) => [field, typeof run[field] === "string"])),
  };
  return Object.keys(checks)
    .filter((field) => !checks[field])
    .join(", ");
}
