import type { RunRecord } from "../../host-agent/protocol/run.ts";
import type { HubClient } from "./hub-client.ts";
import { isProblem } from "./hub-error.ts";
import type { LogBytes } from "./log-bytes.ts";
import { pause } from "./pause.ts";
import { type RetryOptions, withRetries } from "./retry.ts";

export interface FollowOptions {
  /** The byte to start at. */
  after: number;
  retries: RetryOptions;
  onPage(page: LogBytes): Promise<void>;
  /** Receives each record that is read meanwhile. */
  onRecord?(run: RunRecord): void;
}

const PAGE_BYTES = 262_144;
const WAIT_SECONDS = 30;
/** A server that does not support `wait` answers at once; then the client pauses. */
const SHORTEST_EMPTY_WAIT_MS = 500;
const EMPTY_PAUSE_MS = 1_000;
const FIRST_LOOK_MS = 200;
const LONGEST_LOOK_MS = 3_000;

/**
 * Passes on a run's log as it grows, each byte once and in order whatever happens
 * to the connection, until the run has ended and the log was read to its last
 * byte. Returns the final record.
 */
export async function followLog(hub: HubClient, run: RunRecord, options: FollowOptions): Promise<RunRecord> {
  const { retries, onPage, onRecord } = options;
  const { signal } = retries;
  let after = options.after;
  let current = run;
  for (;;) {
    const askedAt = performance.now();
    const waitSeconds = current.ended_at === null ? WAIT_SECONDS : 0;
    const page = await withRetries(
      () => hub.readLog(run, { after, maxBytes: PAGE_BYTES, waitSeconds, signal }),
      retries,
    ).catch((error: unknown) => {
      if (!isProblem(error, "offset_beyond_end") || after === 0) throw error;
      retries.warn("the log was truncated on the host; continuing at its new beginning");
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
    current = await withRetries(() => hub.getRun(run, { signal }), retries);
    onRecord?.(current);
    if (current.ended_at === null && performance.now() - askedAt < SHORTEST_EMPTY_WAIT_MS) {
      await pause(EMPTY_PAUSE_MS, signal);
    }
  }
}

/** Waits until a run has ended, and returns its final record. */
export async function waitForEnd(
  hub: HubClient,
  run: RunRecord,
  { retries, onRecord }: Pick<FollowOptions, "retries" | "onRecord">,
): Promise<RunRecord> {
  const { signal } = retries;
  let current = run;
  let pauseMs = FIRST_LOOK_MS;
  while (current.ended_at === null) {
    const askedAt = performance.now();
    current = await withRetries(() => hub.getRun(run, { signal, waitSeconds: WAIT_SECONDS }), retries);
    onRecord?.(current);
    if (current.ended_at !== null || performance.now() - askedAt >= SHORTEST_EMPTY_WAIT_MS) continue;
    // Answered at once: the server, or a proxy, does not support waiting.
    await pause(pauseMs, signal);
    pauseMs = Math.min(LONGEST_LOOK_MS, pauseMs * 1.3);
  }
  return current;
}
