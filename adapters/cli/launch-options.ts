import { Option } from "commander";

import { joinArgv } from "../../host-agent/protocol/argv.ts";
import type { Source } from "../../host-agent/protocol/run.ts";

/** A launch as typed: the recipe or script, the words after `--`, and the flags by their names. */
export interface LaunchRequest {
  source: Source;
  spec: { recipe_id: string } | { path: string };
  words: readonly string[];
  flags: LaunchFlags;
}

export interface LaunchFlags {
  follow?: boolean;
  wait?: boolean;
  raw?: boolean;
  key?: string;
  terminal?: boolean;
  label?: string;
  /** `name=value`, in the order typed. */
  param?: string[];
  callback?: string;
  dryRun?: boolean;
}

/** The request's body, with the parameters' values. A new option of the API needs a flag below and a line here. */
export function launchBody(
  { spec, words, flags }: LaunchRequest,
  params: Record<string, unknown> | undefined,
): object {
  return {
    ...spec,
    ...(params && { params }),
    ...(words.length > 0 && { args: joinArgv(words) }),
    ...(flags.terminal && { terminal: true }),
    ...(flags.label !== undefined && { label: flags.label }),
    ...(flags.callback !== undefined && { callback_url: flags.callback }),
  };
}

/** A problem with the body in the words of the command line: `--param limit: is missing` for `body.params.limit: …`. */
export function inFlags(problem: string): string {
  return problem
    .replaceAll(/\bbody\.params\.(?=\S+:)/g, "--param ")
    .replaceAll(/\bbody\.(label|terminal)(?=:)/g, "--$1")
    .replaceAll(/\bbody\.callback_url(?=:)/g, "--callback")
    .replaceAll(/\bbody\.args(?=:)/g, "the arguments after --");
}

/** The flag of recipes only. */
export function paramOption(): Option {
  return new Option(
    "--param <name=value>",
    "a parameter that `hub recipes` shows; may be repeated",
  ).argParser((text: string, before: string[] | undefined) => [...(before ?? []), text]);
}

/** The flags of a launch, the same for both surfaces. */
export function launchOptions(): Option[] {
  return [
    new Option("-f, --follow", "show the log until the run ends, then exit with its code"),
    new Option("--wait", "wait for the end without the log, then exit with the run's code"),
    new Option("--raw", "with -f: print the log's bytes unchanged, also on a terminal"),
    new Option("--terminal", "run under a pseudo-terminal, so that lines appear at once"),
    new Option("--label <text>", "a label, to find the run with `hub runs --label`"),
    new Option("--callback <url>", "a URL that receives the record when the run has ended"),
    new Option("--dry-run", "start nothing, and show what would start"),
    new Option("--key <key>", "the Idempotency-Key: within an hour, one key starts at most one run"),
  ];
}
