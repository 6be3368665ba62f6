// One client of the public API, for the command line, the console and the doctor: paths, authentication header, problems,
// log pages, retries, and how bytes, durations and unsafe characters are shown. It runs in Node and in browsers, so it
// imports nothing of Node. It imports values of host-agent/protocol/limits.ts only, and of the other protocol files types
// only: they load zod, which would double the start of the command line.
import type { LaunchPreview } from "../../host-agent/protocol/launch.ts";
import type { RecipeList } from "../../host-agent/protocol/recipe.ts";
import type { KillOrder, RunList, RunRecord, Source } from "../../host-agent/protocol/run.ts";
import type { ScriptContent, ScriptList } from "../../host-agent/protocol/script.ts";
import { describeAnswer, notAHub, readObject } from "./answers.ts";
import { type LogBytes, type LogQuery, readLogBytes } from "./log-bytes.ts";
import { type Call, hubRequests, type HubOptions } from "./request.ts";
import { faultyFields } from "./run-shape.ts";

/** What a run is found by. */
export type RunKey = Pick<RunRecord, "source" | "run_id">;

export interface RunQuery {
  limit: number;
  cursor?: string | null | undefined;
  status?: string | undefined;
  /** Only runs with exactly this label. */
  label?: string | undefined;
}

/** What the clients read of the Hub's health. */
export interface Health {
  mode: "dev" | "enforced" | "unavailable";
  /** What is wrong, for the operator. */
  problems?: string[];
}

export type HubClient = ReturnType<typeof hubClient>;

type Bounds = Pick<Call, "signal" | "timeoutSeconds" | "waitSeconds">;

const API = "/api/v1";
const RECIPES = `${API}/pipelines/recipes`;
const SCRIPTS = `${API}/scripts`;

/** What the clients read of a run's record. */
const RUN_FIELDS = [
  "run_id",
  "source",
  "spec",
  "cmd",
  "log_path",
  "key_name",
  "started_at",
  "ended_at",
  "status",
  "status_reason",
  "exit_code",
] as const satisfies readonly (keyof RunRecord)[];

/**
 * The public API of one Hub. Answers are checked for the fields that clients use, so that an older server or another
 * one is reported. Every method rejects with HubError, or with the reason of an aborted `signal`.
 */
export function hubClient(options: HubOptions) {
  const send = hubRequests(options);

  function json<T>(method: string, path: string, fields: readonly (keyof T & string)[], call: Call = {}) {
    return send(method, path, call, async (response) =>
      readObject<T>(response, await response.text(), fields),
    );
  }

  /** A request that is answered with a run's record. */
  function record(method: string, path: string, call: Call = {}): Promise<RunRecord> {
    return send(method, path, call, async (response) => readRun(response, await response.text()));
  }

  return {
    /** The Hub's health, also when it is degraded; needs no key. */
    health: (bounds?: Bounds): Promise<Health> =>
      json("GET", "/healthz", ["mode"], { ...bounds, reads: () => true }),

    listRecipes: (bounds?: Bounds): Promise<RecipeList> => json("GET", RECIPES, ["recipes"], bounds),

    /** The scripts under `path`, or under all script roots. */
    listScripts: (path?: string, bounds?: Bounds): Promise<ScriptList> =>
      json("GET", SCRIPTS, ["scripts"], { ...bounds, query: { path } }),

    readScript: (path: string): Promise<ScriptContent> =>
      json("GET", `${SCRIPTS}/content`, ["content"], { query: { path } }),

    /** A page of one surface's runs, newest first. */
    listRuns: (source: Source, query: RunQuery): Promise<RunList> =>
      send("GET", runsPath(source), { query: { ...query } }, async (response) => {
        const list = readObject<RunList>(response, await response.text(), ["runs"]);
        for (const run of list.runs) checkRun(response, run);
        return list;
      }),

    /** The record of a run; with `waitSeconds` when the run has ended, or after that time. */
    getRun: (run: RunKey, bounds: Bounds = {}): Promise<RunRecord> =>
      record("GET", runPath(run), {
        ...bounds,
        ...(bounds.waitSeconds !== undefined && { headers: { prefer: `wait=${bounds.waitSeconds}` } }),
      }),

    /** Stops a run. Safe to repeat. */
    killRun: (run: RunKey, order: Partial<KillOrder>): Promise<RunRecord> =>
      record("POST", `${runPath(run)}/kill`, { body: order }),

    /** Launches once for each Idempotency-Key, however often it is sent; without a key once for each request. */
    launch: (source: Source, order: object, key?: string, signal?: AbortSignal): Promise<Launched> =>
      send(
        "POST",
        runsPath(source),
        { body: order, ...(key !== undefined && { headers: { "idempotency-key": key } }), signal },
        async (response) => ({
          run: readRun(response, await response.text()),
          isReplayed: response.headers.get("idempotent-replayed") === "true",
        }),
      ),

    /** What a launch would start. An older server refuses `dry_run`, and starts nothing. */
    previewLaunch: (source: Source, order: object): Promise<LaunchPreview> =>
      json("POST", runsPath(source), ["dry_run", "would_start", "cmd"], {
        body: { ...order, dry_run: true },
      }),

    /** One page of a run's log, in the log's own bytes. */
    readLog: (run: RunKey, { after, maxBytes, waitSeconds = 0, signal }: LogQuery): Promise<LogBytes> =>
      send(
        "GET",
        `${runPath(run)}/logs`,
        {
          query: { after, max_bytes: maxBytes, ...(waitSeconds > 0 && { wait: waitSeconds }) },
          headers: { accept: "text/plain" },
          waitSeconds,
          signal,
        },
        (response) => readLogBytes(response, after),
      ),
  };
}

/** A run that a launch started. */
export interface Launched {
  run: RunRecord;
  /** The answer repeats that of an earlier launch with the same key. */
  isReplayed: boolean;
}

function readRun(response: Response, text: string): RunRecord {
  const run = readObject<RunRecord>(response, text, RUN_FIELDS);
  checkRun(response, run);
  return run;
}

/** Throws a HubError of kind `not-a-hub` for a record that cannot be the Hub's. */
function checkRun(response: Response, run: RunRecord): void {
  const faults = faultyFields(run);
  if (faults === "") return;
  throw notAHub(
    response,
    `${describeAnswer(response)}: its ${faults} cannot be a Hub's, or this client is older`,
  );
}

function runsPath(source: Source): string {
  return `${API}/${source}s/runs`;
}

function runPath({ source, run_id }: RunKey): string {
  return `${runsPath(source)}/${run_id}`;
}
