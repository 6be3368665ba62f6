import type { AgentHealth } from "./health.ts";
import type { LaunchAnswer, LaunchOrder, LaunchPreview, PreviewOrder } from "./launch.ts";
import type { Reach } from "./reach.ts";
import type { RecipeList } from "./recipe.ts";
import type { KillOrder, RunList, RunRecord, RunStatus, Source } from "./run.ts";
import type { ScriptContent, ScriptList } from "./script.ts";

// What belongs in this folder: what the edge and the agent share - operations, their data, problems and signatures. It runs anywhere, and may
// import nothing of ours but itself.

/**
 * What the host-agent does for the API, called as a function or
 * over HTTP. Every method throws an ApiProblem when it cannot do its work.
 */
export interface Agent {
  health(): Promise<AgentHealth>;
  listRecipes(): Promise<RecipeList>;
  /** The scripts in a folder, or in all the roots. */
  listScripts(path?: string): Promise<ScriptList>;
  readScript(path: string): Promise<ScriptContent>;
  /** Starts a run, at most once for each launch token; nothing when `signal` aborts before its turn has come. */
  launch(order: LaunchOrder, signal?: AbortSignal): Promise<LaunchAnswer>;
  /** What a launch would do. Starts and records nothing. */
  previewLaunch(order: PreviewOrder): Promise<LaunchPreview>;
  listRuns(query: RunsQuery): Promise<RunList>;
  getRun(source: Source, runId: string, wait?: WaitQuery): Promise<RunRecord>;
  killRun(source: Source, runId: string, order: KillOrder, who: Caller): Promise<RunRecord>;
  readLog(source: Source, runId: string, query: LogQuery): Promise<LogPage>;
  /** The same agent for a caller with this reach: whatever is out of reach does not exist for it. */
  within(reach: Reach): Agent;
}

/** Which runs to list, newest first. */
export interface RunsQuery {
  source: Source;
  status?: RunStatus | undefined;
  label?: string | undefined;
  limit: number;
  /** The `next_cursor` of the page before. */
  cursor?: string | undefined;
}

/** The caller, for the records. */
export interface Caller {
  keyName: string;
  requestId?: string | undefined;
}

/** When to answer with a run's record. */
export interface WaitQuery {
  /** Answer when the run has ended, or after this time. */
  waitSeconds?: number;
  /** Whose share of the waiting requests this one belongs to. */
  keyName?: string | undefined;
  /** Aborts when the client stopped waiting for the answer. */
  signal?: AbortSignal | undefined;
}

/** Which bytes of a log to read, and how long to wait for the first of them. */
export interface LogQuery {
  after: number;
  maxBytes: number;
  waitSeconds: number;
  /** Whose share of the waiting requests this one belongs to. */
  keyName?: string | undefined;
  signal?: AbortSignal | undefined;
}

export interface LogPage {
  bytes: Uint8Array;
  /** The next byte to ask for. */
  offset: number;
  /** The log's size when it was read. */
  size: number;
  /** True when there are bytes past `offset`. */
  more: boolean;
}
