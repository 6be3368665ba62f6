import { joinArgv } from "../../../host-agent/protocol/argv.ts";
import type { RunRecord } from "../../../host-agent/protocol/schemas.ts";
import { ApiError } from "../api.ts";
import type { Context } from "../context.ts";
import { CliError, EXIT, usageError } from "../exit.ts";
import { interruptible } from "../interruption.ts";
import { launchBody, type LaunchFlags, type LaunchRequest } from "../launch-options.ts";
import { printable } from "../printable.ts";
import { withRetries } from "../retry.ts";
import { RUN_FIELDS, RUNS_PATH } from "../runs.ts";
import { awaitRun, followRun } from "../watch-run.ts";

/** Launches once, however often the network makes us ask, and then does as the flags say. Returns the exit code. */
export async function launch(context: Context, request: LaunchRequest): Promise<number> {
  const { flags } = request;
  if (flags.follow && flags.wait) throw usageError("-f waits for the end already: leave --wait out");
  const key = checkedKey(flags.key ?? `hub-${crypto.randomUUID()}`);
  const api = await context.api();
  const run = await interruptible(
    (signal) =>
      withRetries(
        () =>
          api.json<RunRecord>("POST", RUNS_PATH[request.source], RUN_FIELDS, {
            headers: { "idempotency-key": key },
            body: launchBody(request),
            signal,
          }),
        context.retries("launch", signal),
      ),
    () => `interrupted while launching. ${howToRepeat(key)}`,
  ).catch((error: unknown) => {
    if (!(error instanceof ApiError && error.transient)) throw error;
    throw new CliError(`${error.message}. ${howToRepeat(key)}`, error.exitCode, error);
  });
  await tellStarted(context, run, flags);
  if (flags.follow) return followRun(context, api, run, { after: 0, raw: flags.raw === true });
  if (flags.wait) return awaitRun(context, api, run);
  return EXIT.ok;
}

async function tellStarted(context: Context, run: RunRecord, { follow, wait }: LaunchFlags): Promise<void> {
  const { output, json } = context;
  if (!json) output.note(`${run.run_id} started: ${printable(run.cmd)}`);
  if (follow || wait) return;
  if (json) await output.json(run);
  else {
    output.note(`follow it: ${context.commandLine(`logs ${run.run_id} -f`)}`);
    await output.write(`${run.run_id}\n`);
  }
}

function howToRepeat(key: string): string {
  return `It may have started; repeat the command with --key ${joinArgv([key])} and it starts at most once`;
}

/** What every HTTP client can send as a header's value, and the API takes. */
function checkedKey(key: string): string {
  if (/^[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?$/.test(key)) return key;
  throw usageError("--key must be 1-255 characters of printable ASCII, without spaces at its ends");
}
