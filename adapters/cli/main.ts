// The command line `hub`: reads arguments, asks one Hub and prints to a terminal or a pipe. This folder may import
// adapters/client and host-agent/protocol, and nothing else of this project. A command's own code is in commands/ and is
// loaded by the command that runs, so that every start is fast.
import { CommanderError } from "commander";

import { HubError } from "../client/hub-error.ts";
import { CliError, EXIT } from "./exit.ts";
import { openOutput } from "./output.ts";
import { createProgram } from "./program.ts";

const output = openOutput(process);
const args = process.argv.slice(2);
// Arguments of hub end at the first `--`; what follows belongs to the job and is never parsed here.
const dashes = args.indexOf("--");
const own = dashes < 0 ? args : args.slice(0, dashes);
const words = dashes < 0 ? [] : args.slice(dashes + 1);

const program = createProgram({
  env: process.env,
  output,
  words,
  exit(code) {
    process.exitCode = code;
  },
});

try {
  await program.parseAsync(own, { from: "user" });
} catch (error) {
  process.exitCode = report(error);
}

/** Prints one sentence about a failure and returns the exit code; the parser has printed its own already. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  if (error instanceof HubError) {
    const { advice } = error.facts;
    output.warn(advice === undefined ? error.message : `${error.message}. ${advice}`);
    return EXIT.unavailable;
  }
  if (error instanceof CliError) {
    output.warn(error.message);
    return error.exitCode;
  }
  output.warn(`internal error: ${error instanceof Error ? error.message : String(error)}`);
  if (process.env["HUB_DEBUG"] && error instanceof Error) output.note(error.stack ?? "");
  return EXIT.unavailable;
}
