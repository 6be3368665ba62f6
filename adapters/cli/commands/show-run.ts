import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { usageFacts } from "../../client/run-facts.ts";
import { withRetries } from "../../client/retry.ts";
import { runDuration } from "../../client/units.ts";
import type { Context } from "../context.ts";
import { EXIT } from "../exit.ts";
import { factLines } from "../facts.ts";
import { localTime, statusText } from "../format.ts";
import { printable } from "../printable.ts";
import { findRun } from "../runs.ts";

/** Shows the record of one run. Returns the exit code. */
export async function showRun(context: Context, text: string): Promise<number> {
  const api = await context.api();
  const run = await withRetries(() => findRun(api, text), context.retries("read"));
  if (context.json) await context.output.json(run);
  else await context.output.write(card(context, run));
  return EXIT.ok;
}

function card({ output }: Context, run: RunRecord): string {
  return factLines([
    ["run", run.run_id],
    ["status", statusText(run.status, output.stdout)],
    ["reason", printable(run.status_reason)],
    ["exit code", run.exit_code === null ? null : String(run.exit_code)],
    ["signal", run.signal && printable(run.signal)],
    ["label", run.label ? printable(run.label) : null],
    ["command", printable(run.cmd)],
    ["started", localTime(run.started_at)],
    ["ended", run.ended_at === null ? null : localTime(run.ended_at)],
    ["time", runDuration(run, Date.now())],
    ...usageFacts(run).map(([name, value]): [string, string] => [name.toLowerCase(), value]),
    ["surface", `${run.source}s`],
    ["key", printable(run.key_name)],
    ["pid", run.pid && printable(run.pid)],
    ["log", printable(run.log_path)],
  ]);
}
