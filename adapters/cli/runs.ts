import { MAX_LIST_LIMIT, RUN_ID } from "../../host-agent/protocol/limits.ts";
import type { RunRecord, Source } from "../../host-agent/protocol/run.ts";
import { isProblem } from "../client/hub-error.ts";
import type { Api } from "./api.ts";
import { CliError, usageError } from "./exit.ts";

const PREFIX = /^(?:run_)?([0-9a-f]{1,12})$/;

/** The run with this id, or the one recent run of either surface whose id begins with `text`. */
export async function findRun(api: Api, text: string): Promise<RunRecord> {
  if (RUN_ID.test(text)) return findById(api, text);
  const beginning = PREFIX.exec(text)?.[1];
  if (beginning === undefined) {
    throw usageError(
      `${JSON.stringify(text)} is not a run id. It must look like run_a1b2c3d4e5f6, or be the beginning of one`,
    );
  }
  const { runs } = await listRuns(api, { limit: MAX_LIST_LIMIT });
  const found = runs.filter(({ run_id }) => run_id.startsWith(`run_${beginning}`));
  if (found.length === 0) throw new CliError(`no recent run begins with run_${beginning}`);
  if (found.length > 1) {
    const ids = found.slice(0, 5).map(({ run_id }) => run_id);
    throw usageError(
      `run_${beginning} is ambiguous: ${ids.join(", ")}${found.length > 5 ? ", …" : ""}. Type more of the id`,
    );
  }
  return found[0]!;
}

async function findById(api: Api, run_id: string): Promise<RunRecord> {
  const answers = await onBothSurfaces((source) => api.getRun({ source, run_id }));
  for (const answer of answers) if (answer.status === "fulfilled") return answer.value;
  const errors = answers.flatMap((answer) =>
    answer.status === "rejected" ? [answer.reason as unknown] : [],
  );
  throw errors.find((error) => !isProblem(error, "run_not_found")) ?? noRun(run_id, api);
}

function noRun(runId: string, api: Api): CliError {
  return new CliError(`run ${runId} does not exist at ${api.host.url}`);
}

export interface Listing {
  /** Of both surfaces, newest first. */
  runs: RunRecord[];
  /** Why one surface's runs are missing. */
  refused: string | undefined;
}

/** The latest runs of the surfaces that the key may read. Rejects when it may read none. */
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
  const fatal = refusals.find((error) => !isProblem(error, "insufficient_scope"));
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
    const page = await api.listRuns(source, query);
    runs.push(...page.runs);
    cursor = page.next_cursor ?? undefined;
  } while (cursor !== undefined && runs.length < limit);
  return runs;
}

function onBothSurfaces<T>(ask: (source: Source) => Promise<T>): Promise<PromiseSettledResult<T>[]> {
  return Promise.allSettled([ask("pipeline"), ask("script")]);
}
