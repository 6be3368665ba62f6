import { MAX_LOG_PAGE_BYTES } from "../../../host-agent/protocol/limits.ts";
import type { Context } from "../context.ts";
import { EXIT, usageError } from "../exit.ts";
import { openLogOutput } from "../log-output.ts";
import { readPage, tailOffset } from "../log-pages.ts";
import { withRetries } from "../retry.ts";
import { findRun } from "../runs.ts";
import { followRun } from "../watch-run.ts";

export interface LogsFlags {
  follow?: boolean;
  sinceStart?: boolean;
  /** Lines. */
  tail?: number;
  raw?: boolean;
}

/** What -f shows of the past, as tail(1) does. */
const FOLLOW_TAIL_LINES = 10;

/** Shows a log: all of it, its last lines, or what comes. Returns the exit code. */
export async function showLogs(context: Context, text: string, flags: LogsFlags): Promise<number> {
  if (flags.sinceStart && flags.tail !== undefined)
    throw usageError("--since-start and --tail exclude each other");
  const api = await context.api();
  const retries = context.retries("read");
  const run = await withRetries(() => findRun(api, text), retries);
  const lines = flags.tail ?? (flags.follow && !flags.sinceStart ? FOLLOW_TAIL_LINES : undefined);
  let after = lines === undefined ? 0 : await withRetries(() => tailOffset(api, run, lines), retries);
  const raw = flags.raw === true;
  if (flags.follow) return followRun(context, api, run, { after, raw });

  const log = openLogOutput(context, run, raw);
  for (;;) {
    const page = await withRetries(
      () => readPage(api, run, { after, maxBytes: MAX_LOG_PAGE_BYTES }),
      retries,
    );
    await log.write(page);
    after = page.offset;
    // Of a log that grows, an incomplete character may stay behind: more, but no bytes.
    if (!page.more || page.bytes.length === 0) break;
  }
  await log.end();
  return EXIT.ok;
}
