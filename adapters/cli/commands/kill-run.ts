import type { Signal } from "../../../host-agent/protocol/run.ts";
import { withRetries } from "../../client/retry.ts";
import type { Context } from "../context.ts";
import { EXIT } from "../exit.ts";
import { outcome } from "../format.ts";
import { findRun } from "../runs.ts";

export interface KillFlags {
  signal?: Signal;
  /** Seconds. */
  grace?: number;
}

/** Stops a run. A kill is safe to repeat, so it is retried like a read. Returns the exit code. */
export async function killRun(context: Context, text: string, { signal, grace }: KillFlags): Promise<number> {
  const { output, json } = context;
  const api = await context.api();
  const retries = context.retries("read");
  const run = await withRetries(() => findRun(api, text), retries);
  const body = {
    ...(signal !== undefined && { signal }),
    ...(grace !== undefined && { grace_seconds: grace }),
  };
  const killed = await withRetries(() => api.killRun(run, body), retries);
  if (json) await output.json(killed);
  else if (killed.ended_at !== null) await output.write(`${outcome(killed)}\n`);
  else await output.write(`${killed.run_id} received ${signal ?? "SIGTERM"} and is stopping\n`);
  return EXIT.ok;
}
