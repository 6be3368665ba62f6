import type { ApiProblem } from "../protocol/problem.ts";
import type { ProcessIdentity } from "./process-identity.ts";

export type { ProcessIdentity } from "./process-identity.ts";

// The room `executor/`: where commands run. It knows processes, the wrapper and the run's folder, and neither the
// database nor the rules of runs/. It may import system/, logs/ and protocol/.

/** A command as it is to run, decided before anything starts. */
export interface Command {
  /** The words; the first names the program, by a path or to be found in PATH. */
  argv: string[];
  cwd: string;
  /** The recipe's own variables, in addition to those that every run has. */
  env: Record<string, string>;
  /** Run under a pseudo-terminal. */
  terminal: boolean;
  /** The script that the command runs; undefined for a recipe. */
  script: CommandScript | undefined;
  /** The folder of the log. */
  logDir: string;
}

export interface CommandScript {
  path: string;
  /** Why it cannot run, in words that fit behind "it"; undefined when nothing is known against it. */
  fault: string | undefined;
}

/** Which run to start, and where its log goes. */
export interface StartOrder {
  runId: string;
  command: Command;
  logPath: string;
}

/** What is kept of a started run: enough to find it again after any crash. Only its executor reads it. */
export interface Handle {
  runId: string;
  /** The wrapper's process; undefined when nobody recorded one. */
  process: HandleProcess | undefined;
  /** The boot of the host in which the run was launched. */
  launchedIn: string;
}

export interface HandleProcess {
  pid: number;
  startTime: string | undefined;
  bootId: string | undefined;
}

export interface Started {
  process: ProcessIdentity;
  /** Device and inode of the log that was created. */
  logFile: string;
}

/** Nobody knows whether the command was started: `recover` finds out. */
export class StartUnknown extends Error {
  override readonly name = "StartUnknown";
}

/** What a look at a run found. */
export type Observation =
  /** Its wrapper is alive. */
  | { state: "running" }
  /** Its processes are alive, and nothing keeps their exit code. */
  | { state: "orphaned" }
  /** Its exit code is known, and some of its processes are still alive. Only a look at the whole tree finds this. */
  | { state: "lingering" }
  | Ended
  /** It could not be looked at, so nothing was learnt: it may be in any of the other states. */
  | { state: "unavailable"; cause: unknown };

export interface Ended {
  state: "ended";
  /** Undefined when nothing kept it. */
  exitCode: number | undefined;
  /** When the exit code was written, in epoch milliseconds; undefined without one. */
  at: number | undefined;
  /** The host was restarted while the run was alive. */
  rebooted: boolean;
  /** False only when it is proven that the command never started. */
  commandStarted: boolean;
}

/** A run to look at. */
export interface Look {
  handle: Handle;
  /** Whether a run with an exit code counts as ended only once all its processes are gone: one that was signalled. */
  wholeTree: boolean;
}

export type Signal = "SIGTERM" | "SIGINT" | "SIGKILL";

/** What a command would be on this host. */
export interface CommandPreview {
  /** The first word is the program's path, where it was found. */
  argv: string[];
  /** The names of its environment variables. */
  environment: string[];
  /** Why it could not be started; undefined when it could. */
  problem: ApiProblem | undefined;
}

/**
 * Where commands run. The model is the driver interface of Nomad (StartTask, RecoverTask, InspectTask, SignalTask,
 * StopTask over an opaque handle). Where something cannot be looked at, every method throws or answers `unavailable`,
 * and never takes it for gone.
 */
export interface Executor {
  /** Starts a command. Throws `launch_failed` or `host_unavailable` when nothing was started, StartUnknown otherwise. */
  start(order: StartOrder): Promise<Started>;
  /** What `start` would run. Starts nothing. */
  preview(command: Command): Promise<CommandPreview>;
  /**
   * Decides about a launch that nobody completed: claims the run, so that it can never start, or finds the process that
   * has claimed it. `launchedIn` is the boot of the launch.
   */
  recover(runId: string, launchedIn: string): Promise<"never_started" | Handle>;
  /** Looks at runs: their processes are listed at most once, however many runs they are. */
  look(looks: readonly Look[]): Observation[];
  /** Resolves once a signal would reach the command, and not only the wrapper that is about to start it; at the latest after a second. */
  ready(handle: Handle): Promise<void>;
  /** Sends a signal to every process of the run, once to each; `refused` when at least one may not be signalled. */
  signal(handle: Handle, signal: Signal): "sent" | "refused" | "gone";
  /** Sends SIGKILL to what is left of the run, repeatedly for a moment. */
  kill(handle: Handle): Promise<void>;
  /** Notices that the run has ended, or that one of `paths` has changed; half a second later at the latest. Call it before looking. */
  watch(
    runId: string,
    paths: readonly string[],
    signal: AbortSignal,
  ): Disposable & { changed: Promise<void> };
  /** Removes what is kept of a run that has ended. */
  forget(runId: string): void;
  /** Prepares for the first start. */
  warmUp(): void;
  /** Ends what starts commands; the runs go on. */
  close(): Promise<void>;
}
