import { isatty } from "node:tty";

import { ConfigError } from "./config-error.ts";
import { closeInheritedDescriptors } from "./inherited-descriptors.ts";
import { openLogger } from "./logger.ts";
import type { Log } from "./log-line.ts";

// What belongs in this folder: what speaks to the operating system and to Node and knows no run - processes, files, sockets,
// the log. A file here serves at least two rooms. May import nothing of ours.

/** A running server, as the process around it sees it. */
export interface Service {
  /** Printed on stdout once it serves. */
  banner: string;
  /** What an operator should know, a sentence each: a line for a person before the banner, or a line of the log. */
  warnings: readonly string[];
  /** How many runs are alive; undefined when another process has them. */
  countAlive(): Promise<number | undefined>;
  /** Accepts no more requests, finishes those in progress, and lets the runs continue. */
  stop(): Promise<void>;
}

const STDOUT = 1;
const STDERR = 2;
const SIGNALS = ["SIGTERM", "SIGINT"] as const;
const EX_CONFIG = 78; // sysexits(3)

/**
 * Makes this process a service: from its start, which a ConfigError ends with a
 * message, until the first SIGTERM or SIGINT, which stops it once. Descriptors that whatever started it left open are closed. A second
 * signal ends the process at once.
 */
export async function runService(start: (log: Log) => Promise<Service>): Promise<void> {
  closeInheritedDescriptors();
  const logger = openLogger(STDERR);
  // Also after an error that nothing catches.
  process.once("exit", logger.flush);
  try {
    const service = await start(logger.log);
    let stopping: Promise<void> | undefined;
    for (const signal of SIGNALS) {
      process.once(signal, () => (stopping ??= stop(service, signal)));
    }
    const { shown, logged } = warningsFor(
      { stdout: isatty(STDOUT), stderr: isatty(STDERR) },
      service.warnings,
    );
    for (const warning of logged) logger.log({ level: "warn", event: "start", warning });
    // Last: a program that has read it may send a signal.
    console.log([...shown.map((warning) => `Warning: ${warning}`), service.banner].join("\n"));
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    console.error(`Cannot start.\n${error.message}`);
    process.exitCode = EX_CONFIG;
  }
}

/** A person reads what a terminal shows, and a program the log. No reader gets a warning twice: both streams often end in one place. */
function warningsFor(
  isTerminal: { stdout: boolean; stderr: boolean },
  warnings: readonly string[],
): { shown: readonly string[]; logged: readonly string[] } {
  const isOneTerminal = isTerminal.stdout && isTerminal.stderr;
  return { shown: isTerminal.stdout ? warnings : [], logged: isOneTerminal ? [] : warnings };
}

async function stop(service: Service, signal: string): Promise<void> {
  // A failed look at the runs does not delay the stop.
  const runs = await service.countAlive().then(describeRuns, () => "runs left running");
  await service.stop();
  console.log(`Stopped by ${signal}; ${runs}.`);
  process.exit();
}

function describeRuns(alive: number | undefined): string {
  if (alive === undefined) return "the host-agent and its runs go on";
  return alive === 0 ? "no runs are alive" : `${alive} run${alive === 1 ? "" : "s"} left running`;
}
