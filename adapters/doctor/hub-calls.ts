import type { KillOrder, RunRecord } from "../../host-agent/protocol/run.ts";
import { hubClient } from "../client/hub-client.ts";
import { HubError } from "../client/hub-error.ts";

const ANSWER_TIMEOUT_SECONDS = 5;

/** The answer to a launch: the run, or the refusal's text. */
export interface LaunchAnswer {
  /** HTTP's status. */
  status: number;
  run?: RunRecord;
  detail?: string;
}

/** What a launch may ask for in addition to its script. */
export interface LaunchOptions {
  /** The Idempotency-Key. */
  key?: string;
  terminal?: boolean;
}

/** Which page of a log to read. */
export interface PageQuery {
  after: number;
  maxBytes?: number;
}

/** One page of a log. */
export interface Page {
  /** The page's own text: a character that the page splits becomes U+FFFD. */
  chunk: string;
  offset: number;
  more: boolean;
}

const scriptRun = (runId: string) => ({ source: "script", run_id: runId }) as const;

/** The calls of a Hub's public API that the trials need. `url` is read before each call, because the server may restart. */
export function hubCalls(url: () => string, apiKey: string) {
  const hub = () => hubClient({ url: url(), key: apiKey });
  return {
    /** Launches a script. A refusal is an answer, too. */
    async launch(
      path: string,
      { key: idempotencyKey, ...options }: LaunchOptions = {},
    ): Promise<LaunchAnswer> {
      const signal = AbortSignal.timeout(ANSWER_TIMEOUT_SECONDS * 1000);
      try {
        const { run } = await hub().launch("script", { path, ...options }, idempotencyKey, signal);
        return { status: 201, run };
      } catch (error) {
        if (error instanceof HubError && error.kind === "refused") {
          return { status: error.status, detail: error.message };
        }
        throw error;
      }
    },
    record: (runId: string): Promise<RunRecord> =>
      hub().getRun(scriptRun(runId), { timeoutSeconds: ANSWER_TIMEOUT_SECONDS }),
    kill: (runId: string, order: Partial<KillOrder>): Promise<RunRecord> =>
      hub().killRun(scriptRun(runId), order),
    async page(runId: string, { after, maxBytes = 4_096 }: PageQuery): Promise<Page> {
      const { bytes, offset, more } = await hub().readLog(scriptRun(runId), { after, maxBytes });
      return { chunk: new TextDecoder().decode(bytes), offset, more };
    },
  };
}
