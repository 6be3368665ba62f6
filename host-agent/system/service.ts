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
  /** What an operator should know, a sentence each: printed before the banner, and logged. */
  warnings: readonly string[];
  /** How many runs are alive; undefined when another process has them. */
  countAlive(): Promise<number | undefined>;
  /** Accepts no more requests, finishes those in progress, and lets the runs continue. */
  stop(): Promise<void>;
}

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
    for (const warning of service.warnings) logger.log({ level: "warn", event: "start", warning });
    // Last: a program that has read it may send a signal.
    console.log([...service.warnings.map((warning) => `Warning: ${warning}`), service.banner].join("\n"));
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    console.error(`Cannot start.\n${error.message}`);
    process.exitCode = EX_CONFIG;
  }
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
