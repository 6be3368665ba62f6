import { MAX_LIST_LIMIT, RUN_ID } from "../../host-agent/protocol/limits.ts";
import type { RunList, RunRecord, Source } from "../../host-agent/protocol/run.ts";
import { type Api, ApiError } from "./api.ts";
import { CliError, usageError } from "./exit.ts";

/** Where the runs of each surface are. */
export const RUNS_PATH: Record<Source, string> = {
  pipeline: "/api/v1/pipelines/runs",
  script: "/api/v1/scripts/runs",
};

/** What this client reads of a run. */
export const RUN_FIELDS = [
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

const PREFIX = /^(?:run_)?([0-9a-f]{1,12})$/;

export function runPath({ source, run_id }: Pick<RunRecord, "source" | "run_id">): string {
  return `${RUNS_PATH[source]}/${run_id}`;
}

/** How much longer than the wait an answer may take. */
const WAIT_SLACK_SECONDS = 15;

/** The record of a run as it is now; with `waitSeconds` when it has ended, or after that time. */
export function getRun(
  api: Api,
  run: Pick<RunRecord, "source" | "run_id">,
  signal?: AbortSignal,
  waitSeconds?: number,
): Promise<RunRecord> {
  return api.json<RunRecord>("GET", runPath(run), RUN_FIELDS, {
    signal,
    ...(waitSeconds !== undefined && {
      headers: { prefer: `wait=${waitSeconds}` },
      timeoutSeconds: waitSeconds + WAIT_SLACK_SECONDS,
    }),
  });
}

/** The run that a user means: an id, or the beginning of one of the latest runs' ids, of either surface. */
export async function findRun(api: Api, text: string): Promise<RunRecord> {
  if (RUN_ID.test(text)) return findById(api, text);
  const beginning = PREFIX.exec(text)?.[1];
  if (beginning === undefined) {
    throw usageError(
      `${JSON.stringify(text)} is no run: it should be like run_a1b2c3d4e5f6, or the beginning of that`,
    );
  }
  const { runs } = await listRuns(api, { limit: MAX_LIST_LIMIT });
  const found = runs.filter(({ run_id }) => run_id.startsWith(`run_${beginning}`));
  if (found.length === 0) throw new CliError(`none of the latest runs begins with run_${beginning}`);
  if (found.length > 1) {
    const ids = found.slice(0, 5).map(({ run_id }) => run_id);
    throw usageError(
      `run_${beginning} is not unique: it may be ${ids.join(", ")}${found.length > 5 ? ", …" : ""}`,
    );
  }
  return found[0]!;
}

async function findById(api: Api, run_id: string): Promise<RunRecord> {
  const answers = await onBothSurfaces((source) => getRun(api, { source, run_id }));
  for (const answer of answers) if (answer.status === "fulfilled") return answer.value;
  const errors = answers.flatMap((answer) =>
    answer.status === "rejected" ? [answer.reason as unknown] : [],
  );
  throw (
    errors.find((error) => !(error instanceof ApiError && error.code === "run_not_found")) ??
    noRun(run_id, api)
  );
}

function noRun(runId: string, api: Api): CliError {
  return new CliError(`there is no run ${runId} at ${api.host.url}`);
}

export interface Listing {
  /** Of both surfaces, newest first. */
  runs: RunRecord[];
  /** Why one surface's runs are not among them. */
  refused: string | undefined;
}

/** The latest runs of both surfaces, or of those that the key may read. Rejects when it may read neither. */
export async function listRuns(
  api: Api,
  query: { limit: number; status?: string | undefined; label?: string | undefined; source?: Source },
): Promise<Listing> {
  const answers = await onBothSurfaces((source) =>
    query.source !== undefined && query.source !== source
      ? Promise.resolve([])
      : listSurface(api, source, query),
  );
  const refusals = answers.flatMap((answer) =>
    answer.status === "rejected" ? [answer.reason as unknown] : [],
  );
  const fatal = refusals.find((error) => !(error instanceof ApiError && error.code === "insufficient_scope"));
  if (fatal !== undefined) throw fatal;
  if (refusals.length > 0 && (refusals.length === answers.length || query.source !== undefined))
    throw refusals[0];
  const runs = answers.flatMap((answer) => (answer.status === "fulfilled" ? answer.value : []));
  return {
    runs: runs.toSorted((a, b) => b.started_at - a.started_at).slice(0, query.limit),
    refused: refusals.length > 0 ? (refusals[0] as Error).message : undefined,
  };
}

async function listSurface(
  api: Api,
  source: Source,
  { limit, status, label }: { limit: number; status?: string | undefined; label?: string | undefined },
) {
  const runs: RunRecord[] = [];
  let cursor: string | undefined;
  do {
    const query = { limit: Math.min(MAX_LIST_LIMIT, limit - runs.length), status, label, cursor };
    const page: RunList = await api.json<RunList>("GET", RUNS_PATH[source], ["runs"], { query });
    runs.push(...page.runs);
    cursor = page.next_cursor ?? undefined;
  } while (cursor !== undefined && runs.length < limit);
  return runs;
}

function onBothSurfaces<T>(ask: (source: Source) => Promise<T>): Promise<PromiseSettledResult<T>[]> {
  return Promise.allSettled([ask("pipeline"), ask("script")]);
}
