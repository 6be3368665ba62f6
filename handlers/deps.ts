import type { Agent } from "../host-agent/protocol/agent.ts";
import type { ProblemCode } from "../host-agent/protocol/problem.ts";
import type { Digest, KeyRing } from "./auth.ts";
import type { KV } from "./kv.ts";
import type { Assets } from "./pages.ts";

/** What the handlers need from their platform. Each adapter provides all of it. */
export interface Deps {
  agent: Agent;
  kv: KV;
  keys(): KeyRing | Promise<KeyRing>;
  /** The address that clients use, without a slash at its end; undefined for that of each request, without a path prefix. */
  publicUrl?: string | undefined;
  /** SHA-256 in hex. */
  digest: Digest;
  /** UTF-8 text as a JSON string in bytes, undefined for other bytes; omitted where that is not faster than decoding it. */
  jsonString?(utf8: Uint8Array): Uint8Array | undefined;
  /** The most requests a minute for each key; undefined for no limit. */
  requestsPerMinute?: number | undefined;
  /** The most requests a minute from one address without a valid key; undefined for no limit. */
  failuresPerMinute?: number | undefined;
  /** Records a refused request, or a launch that was answered without the agent; omitted where no such record is kept. */
  audit?(event: RefusedRequest | ReplayedLaunch): void;
  /** Writes one structured line: a request, or a fault. */
  log(entry: Record<string, unknown>): void;
  now(): number;
  /** The built pages; without them the paths of the pages answer that they are not built. */
  assets?: Assets | undefined;
  /** Aborts when the server is about to stop: requests that wait are then answered at once. */
  stopping?: AbortSignal;
}

/** A request that was refused, for the audit log. */
export interface RefusedRequest {
  event: "refused";
  key_name: string | null;
  request_id: string;
  address: string | null;
  method: string;
  route: string | null;
  /** The problem's code. */
  outcome: ProblemCode;
}

/** A launch that was answered from the KV, for the audit log: the agent has not seen it. */
export interface ReplayedLaunch {
  event: "replay";
  outcome: "replayed" | "replayed_stale";
  source: string;
  key_name: string;
  request_id: string | null;
  run_id: string;
  /** SHA-256 of the record's `cmd`. */
  argv_sha256: string;
}
