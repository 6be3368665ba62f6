import { setTimeout as sleep } from "node:timers/promises";

import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { type Api, ApiError } from "./api.ts";
import { type Page, readPage } from "./log-pages.ts";
import { type RetryOptions, withRetries } from "./retry.ts";
import { getRun } from "./runs.ts";

export interface FollowOptions {
  /** The byte to start at. */
  after: number;
  retries: RetryOptions;
  onPage(page: Page): Promise<void>;
  /** Told about each record that was read on the way. */
  onRecord?(run: RunRecord): void;
}

const PAGE_BYTES = 262_144;
const WAIT_SECONDS = 30;
/** A server that knows no `wait` answers at once; then we make the pause. */
const SHORTEST_EMPTY_WAIT_MS = 500;
const EMPTY_PAUSE_MS = 1_000;
const FIRST_LOOK_MS = 200;
const LONGEST_LOOK_MS = 3_000;

/**
 * Gives a run's log as it grows, each byte once and in order whatever happens
 * to the connection, until the run has ended and the log was read to its last
 * byte. Returns the final record.
 */
export async function followLog(api: Api, run: RunRecord, options: FollowOptions): Promise<RunRecord> {
  const { retries, onPage, onRecord } = options;
  const { signal } = retries;
  let after = options.after;
  let current = run;
  for (;;) {
    const askedAt = performance.now();
    const waitSeconds = current.ended_at === null ? WAIT_SECONDS : 0;
    const page = await withRetries(
      () => readPage(api, run, { after, maxBytes: PAGE_BYTES, waitSeconds, signal }),
      retries,
    ).catch((error: unknown) => {
      if (!(error instanceof ApiError && error.code === "offset_beyond_end" && after > 0)) throw error;
      retries.warn("the log was cut short on the host; going on at its new beginning");
      return undefined;
    });
    if (page === undefined) {
      after = 0;
      continue;
    }
    after = page.offset;
    if (page.bytes.length > 0) {
      await onPage(page);
      continue;
    }
    if (current.ended_at !== null) return current;
    current = await withRetries(() => getRun(api, run, signal), retries);
    onRecord?.(current);
    if (current.ended_at === null && performance.now() - askedAt < SHORTEST_EMPTY_WAIT_MS) {
      await sleep(EMPTY_PAUSE_MS, undefined, { ...(signal && { signal }) });
    }
  }
}

/** Waits until a run has ended, and returns its final record. */
export async function waitForEnd(
  api: Api,
  run: RunRecord,
  { retries, onRecord }: Pick<FollowOptions, "retries" | "onRecord">,
): Promise<RunRecord> {
  const { signal } = retries;
  let current = run;
  let pauseMs = FIRST_LOOK_MS;
  while (current.ended_at === null) {
    const askedAt = performance.now();
    current = await withRetries(() => getRun(api, run, signal, WAIT_SECONDS), retries);
    onRecord?.(current);
    if (current.ended_at !== null || performance.now() - askedAt >= SHORTEST_EMPTY_WAIT_MS) continue;
    // Answered at once: a server, or something on the way, that knows no waiting.
    await sleep(pauseMs, undefined, { ...(signal && { signal }) });
    pauseMs = Math.min(LONGEST_LOOK_MS, pauseMs * 1.3);
  }
  return current;
}
