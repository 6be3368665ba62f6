import * as z from "zod";

import type { Agent } from "../host-agent/protocol/agent.ts";
import { ApiProblem } from "../host-agent/protocol/problem.ts";
import {
  IDEMPOTENCY_TTL_SECONDS,
  type LaunchOrder,
  type PreviewOrder,
} from "../host-agent/protocol/launch.ts";
import { RunRecord } from "../host-agent/protocol/run.ts";
import type { Digest } from "./auth.ts";
import { impatientKV, type KV } from "./kv.ts";

/** The longest Idempotency-Key, in bytes. */
export const MAX_IDEMPOTENCY_KEY_BYTES = 255;
/** Printable ASCII, as a string of RFC 8941 (3.3.3): beyond it one platform passes on bytes and another one decoded text. */
const PRINTABLE_ASCII = /^[\x20-\x7e]*$/;

/** Far above the longest record. A longer value was not written by this program, and is not parsed. */
const MAX_REPLAY_LENGTH = 1_048_576;
/** How a platform joins two headers of one name (RFC 9110, 5.3). */
const JOINED = ", ";

/** What the KV keeps of a launch that succeeded. */
const Replay = z.object({ fingerprint: z.string(), expires_at: z.int(), run: RunRecord });

/** What a launch needs from the handlers' dependencies. */
export interface OnceDeps {
  agent: Agent;
  kv: KV;
  digest: Digest;
  now(): number;
  /** True for a caller that does not reach everything: only the agent knows whether it reaches a run. */
  isReachLimited?: boolean;
  /** Aborts when the client has closed the connection. */
  signal?: AbortSignal;
  /** Receives each fault of the KV. The launch does not depend on it. */
  onKvError(error: unknown): void;
}

/** A launch's run, and where it comes from. */
export interface Launched {
  run: RunRecord;
  /**
   * `launch`: this request started the run. The others are replays of an earlier
   * request: `agent` remembered it; `kv` remembered it, and the record is the run's
   * current one; `kv_stale`, and the host could not be asked for the current one.
   */
  from: "launch" | "agent" | "kv" | "kv_stale";
}

/** The value of an Idempotency-Key header. Throws `malformed_request`. */
export function checkIdempotencyKey(key: string): string {
  if (!PRINTABLE_ASCII.test(key)) throw badKey("must be printable ASCII characters");
  // If a proxy repeats the header, the joined value would be another key than the one of the retry.
  if (isRepeated(key)) throw badKey("is given more than once");
  if (key.length >= 1 && key.length <= MAX_IDEMPOTENCY_KEY_BYTES) return key;
  throw badKey(`must be 1-${MAX_IDEMPOTENCY_KEY_BYTES} characters`);
}

/** True for one value joined to itself: many platforms report two headers as one with a comma. */
function isRepeated(value: string): boolean {
  const [first, ...others] = value.split(JOINED);
  return others.length > 0 && others.every((other) => other === first);
}

function badKey(message: string): ApiProblem {
  const path = "header.idempotency-key";
  return new ApiProblem("malformed_request", `${path}: ${message}`, { errors: [{ path, message }] });
}

/**
 * Launches a run at most once for this key of this caller on this surface within
 * an hour. The agent guarantees that. The KV only makes replays faster, or possible
 * while the host cannot be reached: it may forget, lag or fail without other effect.
 */
export async function launchOnce(
  launch: PreviewOrder,
  key: string | null,
  deps: OnceDeps,
): Promise<Launched> {
  const { agent, digest, signal } = deps;
  const kv = impatientKV(deps.kv);
  const fingerprint = await digest(canonical(bodyOf(launch)));
  // Without a key the token is one of this request, so that our own second attempt is as safe.
  const identity = key === null ? crypto.randomUUID() : `${launch.source}\n${launch.key_name}\n${key}`;
  const token = await digest(identity);
  const order: LaunchOrder = { ...launch, launch_token: token, fingerprint };
  // Without a key only our own second attempt can find the run: for the client this request started it.
  if (key === null) return { run: (await agent.launch(order, signal).catch(sayUnknown)).run, from: "launch" };

  const remembered = await recall(`replay:${token}`, fingerprint, { ...deps, kv });
  if (remembered) {
    const replayed = await replay(remembered, launch, deps);
    if (replayed) return replayed;
  }
  const { run, replayed } = await agent.launch(order, signal);
  const expires_at = run.started_at + IDEMPOTENCY_TTL_SECONDS;
  await kv
    .put(`replay:${token}`, JSON.stringify({ fingerprint, expires_at, run }), {
      ttlSeconds: IDEMPOTENCY_TTL_SECONDS,
    })
    .catch(deps.onKvError);
  return { run, from: replayed ? "agent" : "launch" };
}

/** Problems of the way to the agent: they say nothing about what the agent did. */
const UNKNOWN_OUTCOME: ReadonlySet<string> = new Set(["agent_unavailable", "agent_timeout", "agent_error"]);

/** Without a key a retry would be another launch: the client has to look first. */
function sayUnknown(error: unknown): never {
  if (!(error instanceof ApiProblem) || !UNKNOWN_OUTCOME.has(error.code)) throw error;
  throw new ApiProblem(
    error.code,
    "The host gave no answer to this launch. The run may have been started: look at the list of runs before you launch it again. With an Idempotency-Key a retry is safe",
    error.extras,
  );
}

/** The run that the KV has for this token and body. On a mismatch the agent decides. */
async function recall(kvKey: string, fingerprint: string, { kv, now, onKvError }: OnceDeps) {
  try {
    const text = await kv.get(kvKey);
    if (text === undefined) return undefined;
    if (text.length > MAX_REPLAY_LENGTH) throw new Error("the KV's value is too long to be a record");
    const found = Replay.parse(JSON.parse(text));
    const isInForce = found.fingerprint === fingerprint && found.expires_at * 1000 > now();
    return isInForce ? found.run : undefined;
  } catch (error) {
    onKvError(error);
    return undefined;
  }
}

/**
 * The run's current record; the remembered one when the host cannot be reached.
 * Undefined when the run does not exist, or is not of this launch: others may have
 * written to the KV, and no caller may see a run through it that is not theirs.
 */
async function replay(
  remembered: RunRecord,
  launch: PreviewOrder,
  { agent, now, isReachLimited = false }: OnceDeps,
): Promise<Launched | undefined> {
  if (!isRunOf(launch, remembered, now())) return undefined;
  try {
    const run = await agent.getRun(remembered.source, remembered.run_id);
    return isRunOf(launch, run, now()) ? { run, from: "kv" } : undefined;
  } catch (error) {
    if (!(error instanceof ApiProblem)) throw error;
    // Without an answer of the agent, what is remembered may be out of reach by now: the launch asks it once more, and fails as it does.
    return error.status >= 502 && !isReachLimited ? { run: remembered, from: "kv_stale" } : undefined;
  }
}

/** True for a run of the last hour that this caller started with an equal request. */
function isRunOf(launch: PreviewOrder, run: RunRecord, now: number): boolean {
  const { spec, label } = launch;
  return (
    run.source === launch.source &&
    run.key_name === launch.key_name &&
    (run.started_at + IDEMPOTENCY_TTL_SECONDS) * 1000 > now &&
    canonical({ ...run.spec, label: run.label }) === canonical({ ...spec, label: label ?? null })
  );
}

/** All parts of a request: the same key with another label is another request. */
function bodyOf({ spec, label, callback_url }: PreviewOrder): object {
  return {
    ...spec,
    ...(label !== undefined && { label }),
    ...(callback_url !== undefined && { callback_url }),
  };
}

/** The same text for the same JSON in any order of its keys. */
function canonical(body: object): string {
  return JSON.stringify(
    sortedEntries(body).map(([name, value]) => [name, isObject(value) ? sortedEntries(value) : value]),
  );
}

function sortedEntries(object: object): [string, unknown][] {
  return Object.keys(object)
    .toSorted()
    .map((name) => [name, (object as Record<string, unknown>)[name]]);
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
