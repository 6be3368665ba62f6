import { setTimeout as sleep } from "node:timers/promises";

import stringWidth from "string-width";

import type { RunRecord, Source } from "../../../host-agent/protocol/run.ts";
import { withRetries } from "../../client/retry.ts";
import { runDuration } from "../../client/units.ts";
import { renderTable } from "../../client/table.ts";
import type { Api } from "../api.ts";
import type { Context } from "../context.ts";
import { CliError, EXIT } from "../exit.ts";
import { localTime, statusText, whatRan, whatWith } from "../format.ts";
import { interruptible } from "../interruption.ts";
import { printable } from "../printable.ts";
import { listRuns } from "../runs.ts";

export interface RunsFlags {
  status?: string;
  label?: string;
  limit: number;
  source?: Source;
  watch?: boolean;
}

const WATCH_INTERVAL_MS = 2_000;
const HOME_AND_CLEAR = "\x1b[H\x1b[J";

/** Lists the runs of both surfaces, newest first; with `watch` until Ctrl-C. Returns the exit code. */
export async function showRuns(context: Context, flags: RunsFlags): Promise<number> {
  const api = await context.api();
  if (!flags.watch) {
    const { runs, refused } = await withRetries(() => listRuns(api, flags), context.retries("read"));
    if (refused !== undefined) context.output.warn(refused);
    if (context.json) await context.output.json({ runs });
    else if (runs.length === 0) context.output.note("No runs.");
    else await context.output.write(await table(context, runs));
    return EXIT.ok;
  }
  return interruptible(
    (signal) => watch(context, api, flags, signal),
    () => "stopped watching; the runs continue",
  ).catch((error: unknown) => {
    // Ctrl-C is the normal end of a watch.
    if (error instanceof CliError && error.exitCode === EXIT.interrupted) return EXIT.ok;
    throw error;
  });
}

/** On a terminal the list is redrawn in place; into a pipe it is printed again after each change. */
async function watch(context: Context, api: Api, flags: RunsFlags, signal: AbortSignal): Promise<never> {
  const { output, json } = context;
  let shown = "";
  for (;;) {
    const { runs } = await withRetries(() => listRuns(api, flags), context.retries("follow", signal));
    const state = JSON.stringify(runs);
    if (output.stdout.isTTY && !json) {
      const rows = (await table(context, runs))
        .split("\n")
        .slice(0, Math.max(2, (output.stdout.rows || 24) - 1));
      await output.write(HOME_AND_CLEAR + rows.join("\n"));
    } else if (state !== shown) {
      await (json ? output.jsonLine({ runs }) : output.write(await table(context, runs)));
    }
    shown = state;
    await sleep(WATCH_INTERVAL_MS, undefined, { signal });
  }
}

/** The least width of WHAT, in columns, before another column is left out for it. */
const LEAST_WHAT = 14;
/** Which columns a narrow terminal goes without, the first one first. */
const DISPENSABLE = ["KEY", "LABEL", "STARTED", "TIME"];
const GAP = 2;

/** A row keeps to one line: on a narrow terminal columns are left out, and no word but those of WHAT is cut. */
function table({ output }: Context, runs: readonly RunRecord[]): Promise<string> {
  const columns: [title: string, cell: (run: RunRecord) => string][] = [
    ["RUN", ({ run_id }) => run_id],
    ["STATUS", ({ status }) => statusText(status, output.stdout)],
    ["STARTED", ({ started_at }) => localTime(started_at)],
    ["TIME", (run) => runDuration(run, Date.now())],
    ["KEY", ({ key_name }) => printable(key_name)],
    // Only if a run has one: the other columns need the width.
    ...(runs.some(({ label }) => label)
      ? [["LABEL", ({ label }: RunRecord) => printable(label ?? "")] as [string, (run: RunRecord) => string]]
      : []),
    ["WHAT", (run) => `${whatRan(run)} ${whatWith(run)}`.trim()],
  ];
  const widthOf = ([title, cell]: (typeof columns)[number]) =>
    Math.max(title.length, ...runs.map((run) => stringWidth(cell(run)))) + GAP;
  let shown = columns;
  const isTooWide = () =>
    output.width !== undefined &&
    shown.slice(0, -1).reduce((sum, column) => sum + widthOf(column), LEAST_WHAT) > output.width;
  for (const title of DISPENSABLE) if (isTooWide()) shown = shown.filter(([other]) => other !== title);
  return renderTable(
    shown.map(([title]) => title),
    runs.map((run) => shown.map(([, cell]) => cell(run))),
    output.width,
  );
}
