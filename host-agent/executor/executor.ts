import type { ApiProblem } from "../protocol/problem.ts";
import type { Change } from "../system/change.ts";
import type { RunLimits } from "./cgroup-limits.ts";
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
  /** What it may use at most. A limit that this host cannot enforce is a reason not to start. */
  limits?: RunLimits | undefined;
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
  /** The size limit of the log in bytes; undefined for none. */
  logLimit: number | undefined;
  /** What `leafOf` returned for this run. */
  cgroup?: string | undefined;
}

/** What is kept of a started run: enough to find it again after any crash. Only its executor reads it. */
export interface Handle {
  runId: string;
  /** The wrapper's process; undefined when nobody recorded one. */
  process: HandleProcess | undefined;
  /** The boot of the host in which the run was launched. */
  launchedIn: string;
  /** The cgroup that holds exactly the processes of the run; undefined for a run without one. */
  cgroup?: string | undefined;
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
  /** The host could not be looked at, so nothing was learnt: it may be in any of the other states. */
  | { state: "unavailable"; cause: unknown }
  /** It may have ended: its exit code cannot be read now. After five minutes it is `ended` without one. */
  | { state: "unreadable"; errno: string };

export interface Ended {
  state: "ended";
  /** Undefined when nothing kept it. */
  exitCode: number | undefined;
  /** Why the exit code could not be read for five minutes, such as EIO; undefined when it could. */
  unreadable: string | undefined;
  /** When the exit code was written, as its file says, in epoch milliseconds: the run can set it. Undefined without one. */
  at: number | undefined;
  /** The host was restarted while the run was alive. */
  rebooted: boolean;
  /** False only when it is proven that the command never started. */
  commandStarted: boolean;
  /** Why its program could not be executed although that was checked before, such as ENOENT; absent when nothing is known. */
  execError?: string;
  /** What its cgroup says; undefined for a run without one. */
  cgroup?: CgroupFacts | undefined;
}

/** What the cgroup of a run says at its end. */
export interface CgroupFacts {
  /** The processes of the run that are still alive, without its wrapper. */
  leftBehind: number;
  /** Microseconds of all its processes, in user and system mode. */
  cpuUsec: number;
  /** The most memory that it used at once, in bytes; undefined where the kernel does not count it for the run. */
  memoryPeak: number | undefined;
  /** How many of its processes the kernel has killed because memory ran out. */
  oomKills: number;
}

/** A run to look at. */
export interface Look {
  handle: Handle;
  /** Whether a run with an exit code counts as ended only once all its processes are gone: one that was signalled. */
  wholeTree: boolean;
}

/** Reports about runs that may have ended. They can be lost or come twice: only a look is certain. */
export interface RunEnds {
  /** The one receiver of reports: `listener` is called with the run's id, at any time. */
  onEnd(listener: (runId: string) => void): void;
  /** Reports this run from now on. Call it before looking, so that no end falls in between; again is of no effect. */
  follow(runId: string): void;
  /** Reports it no more. */
  unfollow(runId: string): void;
  /** The runs that are followed. */
  followed(): Iterable<string>;
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
  /** The cgroup that a run with this id is started in, to be recorded before; undefined where runs get none. */
  leafOf(runId: string): string | undefined;
  /** Starts a command. Throws `launch_failed` or `host_unavailable` when nothing was started, StartUnknown otherwise. */
  start(order: StartOrder): Promise<Started>;
  /** What `start` would run. Starts nothing. */
  preview(command: Command): Promise<CommandPreview>;
  /**
   * Decides about a launch that nobody completed: claims the run, so that it can never start, or finds the process that
   * has claimed it; `unreadable` while its folder cannot be read, for five minutes at most. `launchedIn` is the boot of the launch, `cgroup` what was recorded for it.
   */
  recover(
    runId: string,
    launchedIn: string,
    cgroup?: string,
  ): Promise<"never_started" | "unreadable" | Handle>;
  /** Looks at runs: the processes of the host are listed once or twice, however many runs they are, and never block other work for long. */
  look(looks: readonly Look[]): Promise<Observation[]>;
  /** Resolves once a signal would reach the command, and not only the wrapper that is about to start it; at the latest after a second. */
  ready(handle: Handle): Promise<void>;
  /**
   * Sends a signal to every process of the run, once to each, with the rights of the run's user; `refused` when at least
   * one may not be signalled. Throws `host_unavailable` when that cannot be done now.
   */
  signal(handle: Handle, signal: Signal): Promise<"sent" | "refused" | "gone">;
  /** Sends SIGKILL to what is left of the run, repeatedly for a moment. Throws as `signal` does. */
  kill(handle: Handle): Promise<void>;
  /**
   * Notices that the exit code of the run was written, or that one of `paths` has changed; half a second later at the latest.
   * The end of a run without an exit code is seen by a look only.
   */
  watch(runId: string, paths: readonly string[]): Change & Disposable;
  /** Notices the ends of runs, at no cost while nothing happens. */
  ends: RunEnds;
  /** Removes the cgroup of a run whose end is recorded, as soon as no process is in it; with `kill` it ends those that are. */
  release(cgroup: string, options: { kill: boolean }): Promise<void>;
  /** Releases the cgroups that a crash has left, or that had processes in them. `endOf`: undefined for a run that is alive or not known. */
  sweep(endOf: (runId: string) => { kill: boolean } | undefined): Promise<void>;
  /** Removes what is kept of a run that has ended. Rejects when the file system fails. */
  forget(runId: string): Promise<void>;
  /** Prepares for the first start. */
  warmUp(): void;
  /** Ends what starts commands; the runs go on. */
  close(): Promise<void>;
}
