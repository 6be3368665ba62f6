import { CommanderError } from "commander";

import { HubError } from "../client/hub-error.ts";
import { CliError, EXIT } from "./exit.ts";
import { openOutput } from "./output.ts";
import { createProgram } from "./program.ts";

const output = openOutput(process);
const args = process.argv.slice(2);
// Ours end at the first `--`; what follows is the job's, and no parser of ours sees it.
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
  process.exitCode = tell(error);
}

/** Every failure is told in a sentence; the parser has told its own already. */
function tell(error: unknown): number {
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
  output.warn(
    `something went wrong that should not: ${error instanceof Error ? error.message : String(error)}`,
  );
  if (process.env["HUB_DEBUG"] && error instanceof Error) output.note(error.stack ?? "");
  return EXIT.unavailable;
}
