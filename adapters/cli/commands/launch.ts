import { joinArgv } from "../../../host-agent/protocol/argv.ts";
import type { LaunchPreview } from "../../../host-agent/protocol/launch.ts";
import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { HubError } from "../../client/hub-error.ts";
import { withRetries } from "../../client/retry.ts";
import type { Api } from "../api.ts";
import type { Context } from "../context.ts";
import { CliError, EXIT, usageError } from "../exit.ts";
import { factLines } from "../facts.ts";
import { interruptible } from "../interruption.ts";
import { inFlags, launchBody, type LaunchFlags, type LaunchRequest } from "../launch-options.ts";
import { readParams } from "../params.ts";
import { printable } from "../printable.ts";
import { findScript } from "../scripts.ts";
import { awaitRun, followRun } from "../watch-run.ts";

/** Launches once, however often the request is repeated, then follows or waits if the flags ask for it. Returns the exit code. */
export async function launch(context: Context, typed: LaunchRequest): Promise<number> {
  const { flags } = typed;
  if (flags.follow && flags.wait) throw usageError("-f already waits for the end: remove --wait");
  if (flags.dryRun && (flags.follow || flags.wait)) {
    throw usageError("--dry-run starts nothing to wait for: remove -f and --wait");
  }
  const key = checkedKey(flags.key ?? `hub-${crypto.randomUUID()}`);
  const api = await context.api();
  const request = await withScriptPath(context, api, typed);
  const body = await bodyOf(context, api, request);
  if (flags.dryRun) return preview(context, api, request, body);
  let attempts = 0;
  /** Attempts that may have started the run. */
  let open = 0;
  const attempt = async (signal: AbortSignal) => {
    attempts++;
    open++;
    return api.launch(request.source, body, key, signal).catch((error: unknown) => {
      if (error instanceof HubError && !error.mayHaveActed) open--;
      throw error;
    });
  };
  const whatNow = () => (open > 0 ? howToRepeat(key) : "Nothing was started");
  const launched = await interruptible(
    (signal) => withRetries(() => attempt(signal), context.retries("launch", signal)),
    () => `interrupted during the launch. ${whatNow()}`,
  ).catch((error: unknown) => {
    const failure = inTermsOfFlags(error, request, context);
    // The sentence of a refusal says it all.
    if (!(failure instanceof HubError) || (open === 0 && !failure.transient)) throw failure;
    throw new HubError(`${failure.message}. ${whatNow()}`, { ...failure.facts, cause: error });
  });
  // After a retry, the earlier launch may be one of this command's own attempts.
  const isReplayed = attempts === 1 && launched.isReplayed;
  const { run } = launched;
  await reportLaunched(context, run, flags, isReplayed);
  if (!flags.follow && !flags.wait) return EXIT.ok;
  const watched = flags.follow
    ? followRun(context, api, run, { after: 0, raw: flags.raw === true })
    : awaitRun(context, api, run);
  return watched.catch((error: unknown) => {
    if (!(error instanceof HubError)) throw error;
    // What failed is the look at the run, so the message must not read as if the launch had been refused.
    const message = `${run.run_id} was started and continues, but it cannot be followed: ${error.message}`;
    throw error.code === "insufficient_scope"
      ? new CliError(message, EXIT.unknown, error)
      : new HubError(message, { ...error.facts, cause: error });
  });
}

/** The request with the path of the script that was named. */
async function withScriptPath(context: Context, api: Api, request: LaunchRequest): Promise<LaunchRequest> {
  const { spec } = request;
  if (!("path" in spec)) return request;
  const path = await withRetries(() => findScript(api, spec.path), context.retries("read"));
  return { ...request, spec: { path } };
}

async function bodyOf(context: Context, api: Api, request: LaunchRequest): Promise<object> {
  const { spec, flags } = request;
  if (!("recipe_id" in spec) || flags.param === undefined) return launchBody(request, undefined);
  const { recipe_id } = spec;
  const texts = flags.param;
  const params = await withRetries(() => readParams(api, recipe_id, texts), context.retries("read"));
  return launchBody(request, params);
}

/** Prints what a launch would start; the exit code reports whether it would. */
async function preview(context: Context, api: Api, request: LaunchRequest, body: object): Promise<number> {
  const { output, json } = context;
  const found = await withRetries(
    () => api.previewLaunch(request.source, body),
    context.retries("read"),
  ).catch((error: unknown) => {
    throw inTermsOfFlags(error, request, context);
  });
  if (json) await output.json(found);
  else await output.write(previewCard(found));
  return found.would_start ? EXIT.ok : EXIT.unavailable;
}

function previewCard(found: LaunchPreview): string {
  const { limits } = found;
  return factLines(
    [
      ["starts", found.would_start ? "yes" : `no: ${found.reason ?? ""}`],
      ["command", joinArgv(found.argv)],
      ["folder", found.cwd],
      ["log", found.log_path_pattern],
      ["environ", found.environment.join(" ")],
      ["terminal", found.terminal ? "yes" : "no"],
      ["time", limits.timeout_seconds === null ? "no limit" : `at most ${limits.timeout_seconds}s`],
      [
        "runs",
        limits.max_running === null ? undefined : `${limits.running} of ${limits.max_running} of this recipe`,
      ],
      ["host runs", `${limits.host_running} of ${limits.host_max_running}`],
      ["sha256", found.spec_sha256 ?? undefined],
    ].map(([name, value]) => [name!, value && printable(value)]),
  );
}

/** The API's messages name parts of the request; a user of the command line needs the flags. */
function inTermsOfFlags(error: unknown, { spec }: LaunchRequest, context: Context): unknown {
  if (!(error instanceof HubError && error.code !== undefined)) return error;
  const isNoRecipe = error.code === "recipe_not_found" && "recipe_id" in spec;
  const message = isNoRecipe
    ? `recipe ${spec.recipe_id} does not exist. List the recipes with \`${context.commandLine("recipes")}\``
    : inFlags(error.message);
  return new HubError(message, { ...error.facts, cause: error });
}

async function reportLaunched(
  context: Context,
  run: RunRecord,
  { follow, wait }: LaunchFlags,
  isReplayed: boolean,
): Promise<void> {
  const { output, json } = context;
  const happened = isReplayed ? "was already started with this key" : "started";
  if (!json) output.note(`${run.run_id} ${happened}: ${printable(run.cmd)}`);
  if (follow || wait) return;
  if (json) await output.json(run);
  else {
    output.note(`follow it: ${context.commandLine(`logs ${run.run_id} -f`)}`);
    await output.write(`${run.run_id}\n`);
  }
}

function howToRepeat(key: string): string {
  return `The run may have started. To start it at most once, repeat the command with --key ${joinArgv([key])}`;
}

/** The key, if a header can carry it and the API accepts it. Throws a usage error otherwise. */
function checkedKey(key: string): string {
  if (/^[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?$/.test(key)) return key;
  throw usageError("--key must be 1-255 characters of printable ASCII, without spaces at the start or end");
}
