import { lookup } from "node:dns/promises";
import { request as httpRequest } from "node:http";
import { request as httpsRequest, type RequestOptions } from "node:https";
import { isIP, type LookupFunction } from "node:net";

import { Webhook } from "standardwebhooks";

import { type AllowedUrl, type CallbackHost, callbackRules, isPublicAddress } from "./callback-rules.ts";
import type { CallbackStore, DueCallback } from "../store/callback-store.ts";
import type { Log } from "../system/log-line.ts";
import type { RunRecord } from "../protocol/run.ts";

const ATTEMPT_TIMEOUT_MS = 10_000;
const FIRST_PAUSE_MS = 5_000;
const LONGEST_PAUSE_MS = 3_600_000;
/** From the first attempt to the last. */
const TRY_FOR_MS = 86_400_000;
const MAX_AT_ONCE = 16;
/** So that one receiver that hangs does not hold up the others. */
const MAX_AT_ONCE_PER_HOST = 4;
const LOOKED_AT = 500;

/** The addresses of a host name. */
export type Resolve = (hostname: string) => Promise<Address[]>;

interface Address {
  address: string;
  family: number;
}

export interface CallbackDeps {
  store: CallbackStore;
  hosts: readonly CallbackHost[];
  /** `whsec_…`; without one nothing is sent. */
  secret: string | undefined;
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

/** What came of one attempt: a status, or why there is none. */
type Outcome = { status: number } | { fault: string };

/**
 * Tells receivers the ends of runs: one signed POST of the final record for each
 * run that asked for it (Standard Webhooks, www.standardwebhooks.com), again and
 * again for a day until a 2xx, or a 410, comes. What is to be sent lies in the
 * database, so each is delivered at least once, whatever becomes of the agent.
 */
export function createCallbacks(deps: CallbackDeps) {
  const { store, hosts, secret, record, log, ca } = deps;
  const now = deps.now ?? Date.now;
  const random = deps.random ?? Math.random;
  const resolve = deps.resolve ?? ((hostname) => lookup(hostname, { all: true, verbatim: true }));
  const rules = callbackRules(hosts);
  const webhook = secret === undefined ? undefined : new Webhook(secret);
  const stopping = new AbortController();
  /** The deliveries under way, by run id, with the host that each calls. */
  const underWay = new Map<string, { host: string; done: Promise<void> }>();

  /** Starts the attempts that are due, as many as there is room for, and waits for none. */
  function startDue(): void {
    if (webhook === undefined || stopping.signal.aborted || underWay.size >= MAX_AT_ONCE) return;
    for (const callback of store.due(now(), LOOKED_AT)) {
      if (underWay.size >= MAX_AT_ONCE) return;
      const host = URL.parse(callback.url)?.host ?? "";
      const sameHost = underWay.values().filter((other) => other.host === host);
      if (underWay.has(callback.run_id) || sameHost.toArray().length >= MAX_AT_ONCE_PER_HOST) continue;
      const done = deliver(callback, webhook, host)
        .catch((error: unknown) => log({ level: "error", event: "callback_failed", error: String(error) }))
        .finally(() => underWay.delete(callback.run_id));
      underWay.set(callback.run_id, { host, done });
    }
  }

  async function deliver(callback: DueCallback, signer: Webhook, host: string): Promise<void> {
    const startedAt = now();
    const giveUpAt = callback.give_up_at ?? startedAt + TRY_FOR_MS;
    const isLast = startedAt >= giveUpAt;
    const nextAttemptAt = isLast
      ? startedAt + LONGEST_PAUSE_MS
      : Math.min(giveUpAt, startedAt + pauseAfter(callback.attempts));
    if (!store.take(callback, { nextAttemptAt, giveUpAt })) return;
    const outcome = await attempt(callback, signer);
    // Stopped by us, not by the receiver: the next agent goes on.
    if (stopping.signal.aborted && "fault" in outcome) return;
    const result = "status" in outcome ? `answered ${outcome.status}` : outcome.fault;
    const end = endOf(outcome) ?? (isLast ? "given_up" : undefined);
    if (end === undefined) store.noteResult(callback.run_id, result);
    else store.end(callback.run_id, end, result);
    if (end === "delivered") return;
    // Of the URL the host only: its path is often a secret.
    log({
      level: "warn",
      event: "callback_not_taken",
      run_id: callback.run_id,
      host,
      attempt: callback.attempts + 1,
      result,
      ...(end !== undefined && { gave_up: true }),
    });
  }

  /** Doubling and more, with a random part, so that a receiver that comes back is not met by all at once. */
  function pauseAfter(attempts: number): number {
    const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 3 ** Math.min(attempts, 20));
    return Math.round(pause * (0.75 + random() / 4));
  }

  async function attempt({ run_id, url: text }: DueCallback, signer: Webhook): Promise<Outcome> {
    // Asked again: the operator may have taken the host off the list since the launch.
    const allowed = rules.match(text);
    if (!allowed) return { fault: "the host is not in HUB_CALLBACK_HOSTS any more" };
    const body = JSON.stringify(record(run_id));
    const timestamp = new Date(now());
    const headers = {
      "content-type": "application/json",
      "content-length": Buffer.byteLength(body),
      "user-agent": "serveraihub-callback/1.0",
      "webhook-id": run_id,
      "webhook-timestamp": String(Math.floor(timestamp.getTime() / 1000)),
      "webhook-signature": signer.sign(run_id, timestamp, body),
    };
    const signal = AbortSignal.any([stopping.signal, AbortSignal.timeout(ATTEMPT_TIMEOUT_MS)]);
    try {
      const addresses = await Promise.race([checkedAddresses(allowed), aborted(signal)]);
      const status = await post(allowed.url, body, { headers, signal, addresses, ca });
      return { status };
    } catch (error) {
      if (signal.aborted) return { fault: "no answer in time" };
      return { fault: (error as NodeJS.ErrnoException).code ?? (error as Error).message };
    }
  }

  /**
   * The addresses to connect to. One that is not public is enough for a refusal:
   * what the others are is for the owner of the name to choose.
   */
  async function checkedAddresses({ url, host }: AllowedUrl): Promise<Address[]> {
    const literal = url.hostname.replaceAll(/^\[|\]$/g, "");
    const family = isIP(literal);
    const found = family === 0 ? await resolve(url.hostname) : [{ address: literal, family }];
    const isRefused = !host.mayBePrivate && !found.every(({ address }) => isPublicAddress(address));
    if (isRefused || found.length === 0)
      throw new Error("the name resolves to an address that is not public");
    return found;
  }

  return {
    rules,
    startDue,
    /** Resolves when what is under way now is over. */
    async settled(): Promise<void> {
      await Promise.all(underWay.values().map(({ done }) => done));
    },
    /** Breaks off what is under way; it is tried again by the next agent. */
    async close(): Promise<void> {
      stopping.abort();
      await Promise.all(underWay.values().map(({ done }) => done));
    },
  };
}

/**
 * Sends one request to these very addresses, whatever the name means by then.
 * Resolves with the status of the answer; of the rest nothing is read, and no
 * redirect is followed.
 */
function post(
  url: URL,
  body: string,
  {
    addresses,
    ...options
  }: { addresses: Address[]; headers: object; signal: AbortSignal; ca: string | undefined },
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const lookupKnown: LookupFunction = (_hostname, { all }, callback) => {
    const [first] = addresses as [Address];
    process.nextTick(() =>
      all === true ? callback(null, addresses) : callback(null, first.address, first.family),
    );
  };
  const send = url.protocol === "https:" ? httpsRequest : httpRequest;
  const outgoing = send(url, {
    ...(options as RequestOptions),
    method: "POST",
    // A connection of its own: another one may have been made to other addresses.
    agent: false,
    lookup: lookupKnown,
  });
  outgoing.on("response", (incoming) => {
    resolve(incoming.statusCode!);
    incoming.on("error", () => {}).destroy();
  });
  outgoing.on("error", reject);
  outgoing.end(body);
  return promise;
}

function aborted(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  signal.addEventListener("abort", () => reject(new Error("aborted")), { once: true });
  return promise;
}

function endOf(outcome: Outcome): "delivered" | "refused" | undefined {
  if (!("status" in outcome)) return undefined;
  if (outcome.status >= 200 && outcome.status < 300) return "delivered";
  return outcome.status === 410 ? "refused" : undefined;
}
