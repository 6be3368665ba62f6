import { withRetries } from "../../client/retry.ts";
import { logPages, type LogQuery, tailOffset } from "../../client/log-bytes.ts";
import { neverStarted } from "../../client/run-facts.ts";
import type { Context } from "../context.ts";
import { EXIT, usageError } from "../exit.ts";
import { outcome } from "../format.ts";
import { openLogOutput } from "../log-output.ts";
import { findRun } from "../runs.ts";
import { followRun } from "../watch-run.ts";

export interface LogsFlags {
  follow?: boolean;
  sinceStart?: boolean;
  /** Lines. */
  tail?: number;
  raw?: boolean;
}

/** How many past lines -f shows, as tail(1) does. */
const FOLLOW_TAIL_LINES = 10;

/** Prints a log: all of it, its last lines, or what is added. Returns the exit code. */
export async function showLogs(context: Context, text: string, flags: LogsFlags): Promise<number> {
  if (flags.sinceStart && flags.tail !== undefined)
    throw usageError("--since-start and --tail exclude each other: use one");
  const api = await context.api();
  const retries = context.retries("read");
  const run = await withRetries(() => findRun(api, text), retries);
  const lines = flags.tail ?? (flags.follow && !flags.sinceStart ? FOLLOW_TAIL_LINES : undefined);
  const read = (query: LogQuery) => withRetries(() => api.readLog(run, query), retries);
  const after = lines === undefined ? 0 : await tailOffset(read, lines);
  const raw = flags.raw === true;
  if (flags.follow) return followRun(context, api, run, { after, raw });

  const log = openLogOutput(context, run, raw);
  for await (const page of logPages(read, after)) await log.write(page);
  await log.end();
  if (neverStarted(run)) context.output.warn(outcome(run));
  return EXIT.ok;
}
