import { Command, InvalidArgumentError, Option } from "commander";

import { MAX_GRACE_SECONDS, SIGNALS, SOURCES, STATUSES } from "../../host-agent/protocol/limits.ts";
import { RECIPE, RUN, SCRIPT, SHELLS } from "./argument-names.ts";
import type { KillFlags } from "./commands/kill-run.ts";
import type { RunsFlags } from "./commands/list-runs.ts";
import type { LogsFlags } from "./commands/logs.ts";
import { type Context, createContext, type GlobalOptions } from "./context.ts";
import type { Env } from "./hosts.ts";
import { type LaunchFlags, launchOptions, paramOption } from "./launch-options.ts";
import type { Output } from "./output.ts";

export interface ProgramDeps {
  env: Env;
  output: Output;
  /** The words after the first `--`, which are arguments of the job. */
  words: readonly string[];
  /** Receives the exit code. */
  exit(code: number): void;
}

/** The whole command line: every command with its arguments, flags and example. Code is loaded by the one that runs. */
export function createProgram({ env, output, words, exit }: ProgramDeps): Command {
  const program = new Command("hub")
    .description("Launch recipes and scripts on a Hub host, follow their logs and stop them.")
    .version("1.0.0", "-V, --version", "show the version")
    .helpOption("-h, --help", "show help")
    .helpCommand("help [command]", "show help")
    .option("--host <name>", "a Hub that `hub login` stored")
    .option("--json", "print JSON")
    .addOption(
      new Option("--retry <seconds>", "how long to retry when the Hub cannot be reached").argParser(
        wholeNumber(0, 86_400),
      ),
    )
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => void output.write(text),
      outputError: (text) => output.warn(mistake(text, false)),
    })
    .showSuggestionAfterError()
    .exitOverride()
    .addHelpText("after", GUIDE);

  const commands: CommandLine = {
    program,
    words,
    command: (usage, description, example, takesWords = false) =>
      program
        .command(usage)
        .description(description)
        .allowExcessArguments(false)
        .configureOutput({ outputError: (text) => output.warn(mistake(text, takesWords)) })
        .addHelpText("after", `\nExample:\n  $ ${example}\n`)
        .hook("preAction", (_program, called) => {
          if (words.length > 0 && !takesWords) called.error("only run and script take arguments after --");
        }),
    act:
      (action) =>
      async (...args) => {
        const context = createContext({ env, output, options: program.opts<GlobalOptions>() });
        exit(await action(context, ...(args as never[])));
      },
  };
  addLaunching(commands);
  addRuns(commands);
  addHubs(commands);
  return program;
}

/** How commands are added. */
interface CommandLine {
  program: Command;
  words: readonly string[];
  /** Adds a command. Only those that launch take words after `--`. */
  command(usage: string, description: string, example: string, takesWords?: boolean): Command;
  /** What commander calls for a command whose `action` returns the exit code. */
  act(action: (context: Context, ...args: never[]) => Promise<number>): (...args: unknown[]) => Promise<void>;
}

/** Recipes and scripts: to list, to read and to launch. */
function addLaunching({ command, act, words }: CommandLine): void {
  command("recipes", "list the recipes", "hub recipes").action(
    act(async (context) => (await import("./commands/list-recipes.ts")).showRecipes(context)),
  );

  const run = command("run", "launch a recipe", "hub run RECIPE -f -- --limit 5000", true)
    .argument(`<${RECIPE}>`, "a recipe of `hub recipes`")
    .usage("[options] <recipe> [-- args...]")
    .action(
      act(async (context, recipe_id: string, flags: LaunchFlags) => {
        const { launch } = await import("./commands/launch.ts");
        return launch(context, { source: "pipeline", spec: { recipe_id }, words, flags });
      }),
    );

  command("scripts", "list the scripts", "hub scripts /home/mark/scripts")
    .argument("[folder]", "only scripts under this folder")
    .action(
      act(async (context, folder?: string) =>
        (await import("./commands/list-scripts.ts")).showScripts(context, folder),
      ),
    );

  command("cat", "show a script's source", "hub cat /home/mark/scripts/my_job.sh")
    .argument(`<${SCRIPT}>`, "a script of `hub scripts`: its path, or the end of it")
    .action(
      act(async (context, path: string) =>
        (await import("./commands/cat-script.ts")).catScript(context, path),
      ),
    );

  const script = command(
    "script",
    "launch a script",
    "hub script /home/mark/scripts/my_job.sh -f -- --mode full",
    true,
  )
    .argument(`<${SCRIPT}>`, "a script of `hub scripts`: its path, or the end of it")
    .usage("[options] <path> [-- args...]")
    .action(
      act(async (context, path: string, flags: LaunchFlags) => {
        const { launch } = await import("./commands/launch.ts");
        return launch(context, { source: "script", spec: { path }, words, flags });
      }),
    );
  run.addOption(paramOption());
  for (const option of launchOptions()) {
    run.addOption(option);
    script.addOption(option);
  }
}

/** Runs: to list, to read, to follow and to stop. */
function addRuns({ command, act }: CommandLine): void {
  command("runs", "list the runs, newest first", "hub runs --status running --watch")
    .addOption(new Option("--status <status>", "only runs with this status").choices(STATUSES))
    .option("--label <text>", "only runs with exactly this label")
    .addOption(
      new Option("--limit <n>", "how many runs at most").argParser(wholeNumber(1, 10_000)).default(20),
    )
    .addOption(new Option("--source <source>", "only runs of one surface").choices(SOURCES))
    .option("--watch", "update the list until Ctrl-C")
    .action(
      act(async (context, flags: RunsFlags) =>
        (await import("./commands/list-runs.ts")).showRuns(context, flags),
      ),
    );

  command("show", "show a run's record", "hub show run_a1b2c3d4e5f6")
    .argument(`<${RUN}>`, "a run's id, or the beginning of it")
    .action(
      act(async (context, id: string) => (await import("./commands/show-run.ts")).showRun(context, id)),
    );

  command("logs", "show a run's log", "hub logs run_a1b2c3d4e5f6 -f --since-start")
    .argument(`<${RUN}>`, "a run's id, or the beginning of it")
    .option("-f, --follow", "follow until the run ends, then exit with its code")
    .option("--since-start", "with -f: start at the first byte (default: the last 10 lines)")
    .addOption(new Option("--tail <n>", "start at the last n lines").argParser(wholeNumber(0, 1_000_000_000)))
    .option("--raw", "print the log's bytes unchanged, also on a terminal")
    .action(
      act(async (context, id: string, flags: LogsFlags) =>
        (await import("./commands/logs.ts")).showLogs(context, id, flags),
      ),
    );

  command("kill", "stop a run and all its processes", "hub kill run_a1b2c3d4e5f6 --grace 10")
    .argument(`<${RUN}>`, "a run's id, or the beginning of it")
    .addOption(new Option("--signal <signal>", "the signal to send (default: SIGTERM)").choices(SIGNALS))
    .addOption(
      new Option("--grace <seconds>", "send SIGKILL to processes that remain after this time").argParser(
        wholeNumber(0, MAX_GRACE_SECONDS),
      ),
    )
    .action(
      act(async (context, id: string, flags: KillFlags) =>
        (await import("./commands/kill-run.ts")).killRun(context, id, flags),
      ),
    );

  command("wait", "wait until a run ends, then exit with its code", "hub wait run_a1b2c3d4e5f6")
    .argument(`<${RUN}>`, "a run's id, or the beginning of it")
    .action(
      act(async (context, id: string) => (await import("./commands/wait-run.ts")).waitRun(context, id)),
    );
}

/** Hubs: the console, stored addresses and keys, and completion. */
function addHubs({ command, act, program, words }: CommandLine): void {
  command("open", "print the console's address, and open it on a desktop", "hub open").action(
    act(async (context) => (await import("./commands/open-console.ts")).openConsole(context)),
  );

  command("login", "store a Hub's address and key", "hub login https://hub.example.com --host acme")
    .argument("[url]", "the Hub's address (default: HUB_URL)")
    .action(act(async (context, url?: string) => (await import("./commands/login.ts")).login(context, url)));

  command("logout", "remove a stored Hub", "hub logout --host acme").action(
    act(async (context) => (await import("./commands/login.ts")).logout(context)),
  );

  command("hosts", "list the stored Hubs", "hub hosts").action(
    act(async (context) => (await import("./commands/login.ts")).showHosts(context)),
  );

  command("completion", "print a completion script", 'eval "$(hub completion bash)"')
    .addArgument(program.createArgument("<shell>", "the shell that loads the script").choices(SHELLS))
    .action(
      act(async (context, shell: string) =>
        (await import("./commands/completion.ts")).printScript(context, shell),
      ),
    );

  program
    .command("complete", { hidden: true })
    .action(
      act(async (context) =>
        (await import("./commands/completion.ts")).printCandidates(context, program, words),
      ),
    );
}

const GUIDE = `
Environment:
  HUB_URL   the Hub's address (default: that of the last login, or http://127.0.0.1:8787)
  HUB_KEY   the API key (default: the key stored for that address)

Exit codes:
  with -f, --wait and wait: the run's own (143 killed, 70 unknown, 1 if only the log shows a failure)
  64 wrong usage, 69 the Hub refused or cannot be reached, 130 interrupted (the run continues)

Examples:
  $ hub recipes
  $ hub run RECIPE -f -- --limit 5000
`;

/** The parser's sentence; for a word that may belong to the job it adds where such words go. */
function mistake(text: string, takesWords: boolean): string {
  const said = withoutWildGuess(text.replace(/^error: /, "").trim());
  const isForeign = takesWords && /^(?:unknown option|too many arguments)/.test(said);
  return isForeign ? `${said.replace(/\.$/, "")}; arguments of the job go after --` : said;
}

/** A suggestion that does not begin as the typed word does is a wrong one, such as `wait` for `exit`. */
function withoutWildGuess(said: string): string {
  const [, typed, guesses] = /^unknown command '(.)[^]*\(Did you mean (?:one of )?(.+)\?\)$/.exec(said) ?? [];
  if (typed === undefined || guesses!.split(", ").some((guess) => guess.startsWith(typed))) return said;
  return `${said.slice(0, said.indexOf("\n"))}. List the commands with \`hub --help\``;
}

function wholeNumber(min: number, max: number) {
  return (text: string): number => {
    if (/^\d{1,10}$/.test(text) && Number(text) >= min && Number(text) <= max) return Number(text);
    throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
  };
}
