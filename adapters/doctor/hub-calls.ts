import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { hubClient } from "../client/hub-client.ts";
import { HubError } from "../client/hub-error.ts";

const HEALTH_TIMEOUT_SECONDS = 2;

/** An answer to a launch or a kill: its status, and the run's record or the problem's `detail`. */
export interface Answer {
  status: number;
  // oxlint-disable-next-line typescript/no-explicit-any -- a record or a problem
  json: any;
}

/** What a launch may ask for in addition to its script. */
export interface LaunchOptions {
  /** The Idempotency-Key. */
  key?: string;
  terminal?: boolean;
}

/** One page of a log. */
export interface PageQuery {
  after: number;
  maxBytes?: number;
}

/** The calls of a Hub's public API that the trials need. `url` is asked before each call, because the server may restart. */
export function hubCalls(url: () => string, apiKey: string) {
  const hub = () => hubClient({ url: url(), key: apiKey });
  return {
    launch: (path: string, { key, ...options }: LaunchOptions = {}): Promise<Answer> =>
      answerOf(201, async () => (await hub().launch("script", { path, ...options }, key)).run),
    record: (runId: string): Promise<RunRecord> => hub().getRun(ofScript(runId)),
    kill: (runId: string, order: object): Promise<Answer> =>
      answerOf(200, () => hub().killRun(ofScript(runId), order)),
    /** Throws when the page splits a character. */
    async page(runId: string, { after, maxBytes = 4_096 }: PageQuery) {
      const { bytes, ...page } = await hub().readLog(ofScript(runId), { after, maxBytes });
      return { ...page, chunk: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes) };
    },
  };
}

function ofScript(run_id: string) {
  return { source: "script", run_id } as const;
}

/** True when a Hub answers at this origin. */
export async function isHub(origin: string): Promise<boolean> {
  const hub = hubClient({ url: origin, headers: { connection: "close" } });
  return hub.health({ timeoutSeconds: HEALTH_TIMEOUT_SECONDS }).then(
    ({ mode }) => typeof mode === "string",
    () => false,
  );
}

/** A refusal is an answer, too. */
async function answerOf(status: number, ask: () => Promise<RunRecord>): Promise<Answer> {
  try {
    return { status, json: await ask() };
  } catch (error) {
    if (error instanceof HubError && error.kind === "refused") {
      return { status: error.status, json: { detail: error.message } };
    }
    throw error;
  }
}
