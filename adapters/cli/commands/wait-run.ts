import { withRetries } from "../../client/retry.ts";
import type { Context } from "../context.ts";
import { findRun } from "../runs.ts";
import { awaitRun } from "../watch-run.ts";

/** Waits until a run ends. Returns the exit code for how it ended. */
export async function waitRun(context: Context, text: string): Promise<number> {
  const api = await context.api();
  const run = await withRetries(() => findRun(api, text), context.retries("read"));
  return awaitRun(context, api, run);
}
