import { lookup } from "node:dns/promises";

import { Webhook } from "standardwebhooks";

import { type CallbackPost, postCallback, type PostResult, type Resolve } from "./callback-post.ts";
import { type CallbackHost, callbackRules } from "./callback-rules.ts";
import type { CallbackStore, DueCallback } from "../store/callback-store.ts";
import type { Log, LogEntry } from "../system/log-line.ts";
import type { RunRecord } from "../protocol/run.ts";

// What belongs here: which URLs a launch may name (callback-rules.ts), one POST to such a URL (callback-post.ts), and the
// queue that retries them (this file). May import system/, protocol/ and the types of store/.

const FIRST_PAUSE_MS = 5_000;
const LONGEST_PAUSE_MS = 3_600_000;
/** From the first attempt to the last. */
const TRY_FOR_MS = 86_400_000;
/** A day has more of them. After fewer the clock was set ahead, and the retries go on. */
const LEAST_ATTEMPTS = 24;
const MAX_AT_ONCE = 16;
/** So that a receiver that hangs does not delay the others. */
const MAX_AT_ONCE_PER_HOST = 4;
const LOOKED_AT = 500;

export interface CallbackDeps {
  store: CallbackStore;
  hosts: readonly CallbackHost[];
  /** `whsec_…`; each one signs, so that a receiver may have any of them. Without one nothing is sent. */
  secrets: readonly string[];
  /** The record of a run that has ended. */
  record(runId: string): RunRecord;
  log: Log;
  now?(): number;
  /** From 0 to 1, for the jitter. */
  random?(): number;
  resolve?: Resolve;
  /** The certificates to trust, in place of Node's. */
  ca?: string | undefined;
}

/**
 * Reports the ends of runs to receivers: one signed POST of the final record for each
 * run that asked for it (Standard Webhooks, www.standardwebhooks.com), retried
 * for a day until the answer is a 2xx or a 410. The database holds what is still to be
 * sent, so each callback is delivered at least once, also after a restart of the agent.
 */
export function createCallbacks(deps: CallbackDeps) {
  const { store, secrets, record, log, ca } = deps;
  const now = deps.now ?? Date.now;
  const random = deps.random ?? Math.random;
  const resolve = deps.resolve ?? ((hostname) => lookup(hostname, { all: true, verbatim: true }));
  const rules = callbackRules(deps.hosts);
  const signers = secrets.map((secret) => new Webhook(secret));
  const stopping = new AbortController();
  /** The deliveries in progress, by run id, with the host that each calls. */
  const underWay = new Map<string, { host: string; done: Promise<void> }>();

  /** Starts the attempts that are due, up to the limits, and waits for none. */
  function startDue(): void {
    if (signers.length === 0 || stopping.signal.aborted || underWay.size >= MAX_AT_ONCE) return;
    for (const callback of dueAt(now(), store)) {
      if (underWay.size >= MAX_AT_ONCE) return;
      const host = URL.parse(callback.url)?.host ?? "";
      const sameHost = underWay.values().filter((other) => other.host === host);
      if (underWay.has(callback.run_id) || sameHost.toArray().length >= MAX_AT_ONCE_PER_HOST) continue;
      const done = deliver(callback, host)
        .catch((error: unknown) => log({ level: "error", event: "callback_failed", error: String(error) }))
        .finally(() => underWay.delete(callback.run_id));
      underWay.set(callback.run_id, { host, done });
    }
  }

  async function deliver(callback: DueCallback, host: string): Promise<void> {
    const startedAt = now();
    const giveUpAt = Math.min(callback.give_up_at ?? Infinity, startedAt + TRY_FOR_MS);
    const isTimeOver = startedAt >= giveUpAt;
    const isLast = isTimeOver && callback.attempts >= LEAST_ATTEMPTS;
    const afterPause = startedAt + pauseAfter(callback.attempts, random);
    const nextAttemptAt = isTimeOver ? afterPause : Math.min(giveUpAt, afterPause);
    if (!store.take(callback, { nextAttemptAt, giveUpAt })) return;
    const posted = await attempt(callback);
    // Stopped by us, not by the receiver: the next agent continues.
    if (stopping.signal.aborted && "fault" in posted) return;
    const result = "status" in posted ? `answered ${posted.status}` : posted.fault;
    const end = endOf(posted) ?? (isLast ? "given_up" : undefined);
    if (end === undefined) store.noteResult(callback.run_id, result);
    else store.end(callback.run_id, end, result);
    if (end === "delivered") return;
    log(failure(callback, { host, result, isLast: end !== undefined }));
  }

  async function attempt({ run_id, url }: DueCallback): Promise<PostResult> {
    // Checked again: the operator may have removed the host from the list since the launch.
    const allowed = rules.match(url);
    if (!allowed) return { fault: "the host is not in HUB_CALLBACK_HOSTS any more" };
    const post = signed(signers, run_id, JSON.stringify(record(run_id)), new Date(now()));
    return postCallback(allowed, post, { resolve, ca, stopping: stopping.signal });
  }

  async function idle(): Promise<void> {
    await Promise.all(underWay.values().map(({ done }) => done));
  }

  return {
    rules,
    startDue,
    /** Resolves when all deliveries that are in progress now are over. */
    idle,
    /** Aborts the deliveries in progress; the next agent retries them. */
    async close(): Promise<void> {
      stopping.abort();
      await idle();
    },
  };
}

function dueAt(time: number, store: CallbackStore): DueCallback[] {
  return store.due({ now: time, latest: time + LONGEST_PAUSE_MS, limit: LOOKED_AT });
}

/** The log entry of an attempt without success. Only the host of the URL: its path is often a secret. */
function failure(
  { run_id, attempts }: DueCallback,
  { host, result, isLast }: { host: string; result: string; isLast: boolean },
): LogEntry {
  const entry: LogEntry = {
    level: "warn",
    event: "callback_not_taken",
    run_id,
    host,
    attempt: attempts + 1,
    result,
  };
  return isLast ? { ...entry, gave_up: true } : entry;
}

/** Tripled each time, with a random part, so that a receiver that comes back does not get all callbacks at once. */
function pauseAfter(attempts: number, random: () => number): number {
  const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 3 ** Math.min(attempts, 20));
  return Math.round(pause * (0.75 + random() / 4));
}

function signed(signers: readonly Webhook[], runId: string, body: string, timestamp: Date): CallbackPost {
  return {
    body,
    headers: {
      "content-type": "application/json",
      "content-length": Buffer.byteLength(body),
      "user-agent": "serveraihub-callback/1.0",
      "webhook-id": runId,
      "webhook-timestamp": String(Math.floor(timestamp.getTime() / 1000)),
      "webhook-signature": signers.map((signer) => signer.sign(runId, timestamp, body)).join(" "),
    },
  };
}

function endOf(result: PostResult): "delivered" | "refused" | undefined {
  if (!("status" in result)) return undefined;
  if (result.status >= 200 && result.status < 300) return "delivered";
  return result.status === 410 ? "refused" : undefined;
}
