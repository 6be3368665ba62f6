// adapters/recipes/ is the program that checks a recipes file before the service reads it. It may import of host-agent/ the
// settings, system/ and inspection.ts.
import { resolve } from "node:path";
import { parseArgs } from "node:util";

import { readAgentConfig } from "../../host-agent/config.ts";
import { readCatalogue } from "../../host-agent/inspection.ts";
import { ConfigError } from "../../host-agent/system/config-error.ts";

const HELP = `Usage: npm run recipes -- check [FILE]

  check [FILE]   Check a recipes file. Default: HUB_RECIPES_FILE, or the samples
  --help         Show this

Exit codes: 0 all recipes are valid, 1 at least one is not or the file cannot be read, 64 wrong usage.`;

const EX_USAGE = 64; // sysexits(3)

process.exitCode = run(process.argv.slice(2));

/** Runs the command, and returns its exit code. */
function run(args: string[]): number {
  const line = parseLine(args);
  if (typeof line === "string") {
    console.error(`${line}\nTry: npm run recipes -- --help`);
    return EX_USAGE;
  }
  if (line.help) {
    console.log(HELP);
    return 0;
  }
  try {
    return check(line.file ?? readAgentConfig(process.env).recipesFile);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    console.error(error.message);
    return 1;
  }
}

/** What is wrong with the command line, or what it asks for. */
function parseLine(args: string[]): string | { help: boolean; file: string | undefined } {
  try {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: { help: { type: "boolean", default: false } },
    });
    const [command, file, ...others] = positionals;
    if (values.help) return { help: true, file: undefined };
    if (command !== "check") {
      return command === undefined
        ? "A command is missing."
        : `${JSON.stringify(command)} is an unknown command.`;
    }
    if (others.length > 0)
      return `Only one file can be checked at a time: ${JSON.stringify(others[0])} is too many.`;
    return { help: false, file: file === undefined ? undefined : resolve(file) };
  } catch (error) {
    return (error as Error).message;
  }
}

function check(file: string): number {
  try {
    const { recipes, faults } = readCatalogue(file);
    for (const { message } of faults) console.log(message);
    const valid = `${recipes.size} ${recipes.size === 1 ? "recipe is" : "recipes are"} valid`;
    console.log(
      `${file}: ${valid}${faults.length > 0 ? `; correct the lines above, the others stay in force` : ""}.`,
    );
    return faults.length > 0 ? 1 : 0;
  } catch (error) {
    console.log(`${file} cannot be used: ${(error as Error).message}`);
    return 1;
  }
}
