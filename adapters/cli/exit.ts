import type { RunRecord } from "../../host-agent/protocol/run.ts";

/** Exit codes other than a run's own; the numbers are those of sysexits(3) and of shells. */
export const EXIT = {
  ok: 0,
  /** The run exited with 0, but its log shows that it failed. */
  failed: 1,
  usage: 64,
  unavailable: 69,
  unknown: 70,
  interrupted: 130,
  brokenPipe: 141,
  killed: 143,
} as const;

/** A failure that is reported in one sentence on stderr, and the code to exit with. */
export class CliError extends Error {
  override readonly name = "CliError";
  readonly exitCode: number;

  constructor(message: string, exitCode: number = EXIT.unavailable, cause?: unknown) {
    super(message, { cause });
    this.exitCode = exitCode;
  }
}

/** A mistake in the command line, the environment or the hosts file. */
export function usageError(message: string): CliError {
  return new CliError(message, EXIT.usage);
}

/** The exit code for how a run ended: its own, if it has one. */
export function exitCodeOf({ status, exit_code }: RunRecord): number {
  if (status === "completed") return EXIT.ok;
  if (status === "killed") return EXIT.killed;
  if (status !== "failed" || exit_code === null) return EXIT.unknown;
  return exit_code === 0 ? EXIT.failed : exit_code;
}
