import type { Command, Option } from "commander";

import type { Context } from "../context.ts";
import { EXIT } from "../exit.ts";
import { RECIPE, RUN, SCRIPT } from "../argument-names.ts";
import { whatRan } from "../format.ts";
import { readHosts } from "../hosts.ts";
import { printable } from "../printable.ts";
import { listRuns } from "../runs.ts";

interface Candidate {
  value: string;
  about: string;
}

/** How many of the latest runs are offered. */
const RUNS_OFFERED = 50;
/** A slower completion is useless at a prompt. */
const TIMEOUT_SECONDS = 3;

/** Prints the script that makes a shell ask `hub complete`. Returns the exit code. */
export async function printScript({ output, json }: Context, shell: string): Promise<number> {
  const script = SCRIPTS[shell]!;
  if (json) await output.json({ shell, script });
  else await output.write(script);
  return EXIT.ok;
}

/**
 * Prints the candidates for the last of `words` (the command line after `hub`), one
 * on each line, with a description after a tab. Prints nothing when the Hub cannot
 * be reached: an error would break the prompt.
 */
export async function printCandidates(
  context: Context,
  program: Command,
  words: readonly string[],
): Promise<number> {
  const typed = words.at(-1) ?? "";
  const all = await candidates(context, program, words.slice(0, -1), typed).catch(() => []);
  const fitting = all.filter(({ value }) => value.startsWith(typed) && printable(value) === value);
  if (context.json) await context.output.json(fitting);
  else
    await context.output.write(fitting.map(({ value, about }) => `${value}\t${printable(about)}\n`).join(""));
  return EXIT.ok;
}

async function candidates(
  context: Context,
  program: Command,
  before: readonly string[],
  typed: string,
): Promise<Candidate[]> {
  // After `--` are the arguments of the job, which are unknown here.
  if (before.includes("--")) return [];
  let command: Command | undefined;
  let pending: Option | undefined;
  let position = 0;
  for (const word of before) {
    if (pending) pending = undefined;
    else if (word.startsWith("-")) pending = takesValue(findOption(program, command, word));
    else if (command) position++;
    else command = program.commands.find((known) => known.name() === word);
  }
  if (pending) return valuesOf(context, pending);
  if (typed.startsWith("-")) return optionsOf(program, command);
  if (!command) {
    const visible = program.createHelp().visibleCommands(program);
    return visible.map((known) => ({ value: known.name(), about: known.description() }));
  }
  const argument = command.registeredArguments[position];
  if (!argument) return [];
  if (argument.argChoices) return argument.argChoices.map((value) => ({ value, about: "" }));
  return namesFor(await asked(context, before, program), argument.name());
}

function findOption(program: Command, command: Command | undefined, word: string): Option | undefined {
  return [...(command?.options ?? []), ...program.options].find(
    ({ short, long }) => word === short || word === long,
  );
}

function takesValue(option: Option | undefined): Option | undefined {
  return option?.required ? option : undefined;
}

async function valuesOf({ hostsPath }: Context, option: Option): Promise<Candidate[]> {
  if (option.long !== "--host") return (option.argChoices ?? []).map((value) => ({ value, about: "" }));
  const { hosts } = await readHosts(hostsPath);
  return Object.entries(hosts).map(([value, { url }]) => ({ value, about: url }));
}

function optionsOf(program: Command, command: Command | undefined): Candidate[] {
  return [...(command?.options ?? []), ...program.options].flatMap(({ long, description }) =>
    long ? [{ value: long, about: description }] : [],
  );
}

/** The context of the typed line, which may name a host. */
async function asked(context: Context, before: readonly string[], program: Command) {
  const { createContext } = await import("../context.ts");
  const at = before.indexOf("--host");
  const host = at < 0 ? undefined : before[at + 1];
  const options = { ...program.opts(), ...(host !== undefined && { host }) };
  return createContext({ env: context.env, output: context.output, options });
}

async function namesFor(context: Context, argument: string): Promise<Candidate[]> {
  const bounds = { timeoutSeconds: TIMEOUT_SECONDS };
  const api = await context.api();
  if (argument === RECIPE) {
    const { recipes } = await api.listRecipes(bounds);
    return recipes.map(({ recipe_id, title }) => ({ value: recipe_id, about: title }));
  }
  if (argument === SCRIPT) {
    const { scripts } = await api.listScripts(undefined, bounds);
    return scripts.map(({ path }) => ({ value: path, about: "" }));
  }
  if (argument !== RUN) return [];
  const { runs } = await listRuns(api, { limit: RUNS_OFFERED });
  return runs.map((run) => ({ value: run.run_id, about: `${run.status} ${whatRan(run)}` }));
}

/** What was typed is never evaluated: the words are passed as an array. */
const SCRIPTS: Record<string, string> = {
  bash: String.raw`# bash completion for hub: eval "$(hub completion bash)"
_hub_complete() {
  local line
  COMPREPLY=()
  while IFS= read -r line; do
    COMPREPLY+=("$(printf '%q' "${"$"}{line%%$'\t'*}")")
  done < <(hub complete -- "${"$"}{COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _hub_complete hub
`,
  zsh: String.raw`#compdef hub
# zsh completion for hub: eval "$(hub completion zsh)"
_hub_complete() {
  local line
  local -a values texts
  while IFS= read -r line; do
    values+=("${"$"}{line%%$'\t'*}")
    texts+=("${"$"}{line/$'\t'/  }")
  done < <(hub complete -- "${"$"}{(@Q)words[2,CURRENT]}" 2>/dev/null)
  (( $#values )) && compadd -l -d texts -a values
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _hub_complete hub
`,
  fish: String.raw`# fish completion for hub: hub completion fish | source
function __hub_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    hub complete -- $before[2..-1] "$current" 2>/dev/null
end
complete -c hub -f -a '(__hub_complete)'
`,
};
