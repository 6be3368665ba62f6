import { execFileSync } from "node:child_process";
import { accessSync, constants, existsSync, mkdirSync, readFileSync, statfsSync } from "node:fs";
import { basename, dirname, join } from "node:path";

import { ConfigError } from "../system/config-error.ts";
import { readCgroupFile, writeCgroupFile } from "./cgroup-files.ts";
import type { Controller } from "./cgroup-limits.ts";

/** Where the leaves of runs are made. */
export interface CgroupRoot {
  path: string;
  /** What can be limited in a leaf. */
  controllers: ReadonlySet<Controller>;
  /** Why a controller is missing, in words that fit after "because"; undefined when none is. */
  why: string | undefined;
}

/** No run gets a leaf; `why` fits after "because". */
export interface NoCgroup {
  path: undefined;
  why: string;
}

/** `auto` uses the cgroup of this process where it was delegated; a path names another. */
export type CgroupSetting = "auto" | "off" | (string & {});

/** What of the host decides; a test replaces it. */
export interface CgroupHost {
  /** The text of /proc/self/cgroup. */
  own(): string;
  /** The text of /proc/self/mountinfo. */
  mounts(): string;
  isCgroup2(path: string): boolean;
  /** Whether systemd has delegated the unit whose cgroup this is. */
  isDelegatedUnit(cgroup: string): boolean;
}

const CGROUP2_MAGIC = 0x63677270;

export const thisHost: CgroupHost = {
  own: () => readFileSync("/proc/self/cgroup", "latin1"),
  mounts: () => readFileSync("/proc/self/mountinfo", "latin1"),
  isCgroup2: (path) => statfsSync(path).type === CGROUP2_MAGIC,
  isDelegatedUnit,
};

/** The leaf of the agent's own processes, next to those of runs. */
const AGENT_LEAF = "agent";
const CONTROLLERS: readonly Controller[] = ["memory", "cpu", "pids"];

/** The place that a setting leads to; `mayEnable` says whether controllers may be enabled there. */
interface FoundRoot {
  path: string;
  own: string | undefined;
  mayEnable: boolean;
}

/**
 * The place of the leaves, prepared: where controllers are to be enabled, the processes that are directly in it move to the leaf `agent`
 * (the kernel allows no processes in a cgroup that enables controllers for its children). Throws ConfigError for a path that cannot be used.
 */
export function openCgroupRoot(setting: CgroupSetting, host: CgroupHost = thisHost): CgroupRoot | NoCgroup {
  const found = findRoot(setting, host);
  return found.path === undefined ? found : prepare(found);
}

/**
 * What `openCgroupRoot` would find: it changes nothing. A controller counts if it could be enabled. Throws ConfigError as that does.
 */
export function inspectCgroupRoot(
  setting: CgroupSetting,
  host: CgroupHost = thisHost,
): CgroupRoot | NoCgroup {
  const found = findRoot(setting, host);
  if (found.path === undefined) return found;
  const { path, mayEnable } = found;
  return describe(path, mayEnable ? "cgroup.controllers" : "cgroup.subtree_control", whyNone(mayEnable));
}

function findRoot(setting: CgroupSetting, host: CgroupHost): FoundRoot | NoCgroup {
  if (setting === "off") return { path: undefined, why: "HUB_CGROUP is off" };
  const own = ownCgroup(host);
  if (setting !== "auto") {
    checkPlace(setting, host);
    return { path: setting, own: own?.path, mayEnable: true };
  }
  if (own === undefined) return { path: undefined, why: "no cgroup2 file system is mounted on this host" };
  const found = delegatedRoot(own.path, host);
  return typeof found === "string" ? { path: undefined, why: found } : { ...found, own: own.path };
}

/** Throws ConfigError for a folder in which no cgroup can be made. */
function checkPlace(path: string, host: CgroupHost): void {
  const obstacle = obstacleOf(path, host);
  if (obstacle !== undefined) throw new ConfigError(`HUB_CGROUP: ${path} cannot be used: ${obstacle}`);
}

function obstacleOf(path: string, host: CgroupHost): string | undefined {
  if (!existsSync(path)) return "it does not exist";
  if (!host.isCgroup2(path)) return "it is not in a cgroup2 file system";
  return whyNotKillable(path) ?? obstacleIn(path);
}

/** Why the leaves of a cgroup could not be killed as a whole; undefined when they can. */
function whyNotKillable(path: string): string | undefined {
  if (existsSync(join(path, "cgroup.kill"))) return undefined;
  // The root of the host's hierarchy has neither file: it belongs to the host's own service manager.
  return existsSync(join(path, "cgroup.type"))
    ? "this kernel has no cgroup.kill: Linux 5.14 is the first"
    : "it is the root cgroup of the host, which is never delegated";
}

/** The cgroup of this process as a folder. */
function ownCgroup(host: CgroupHost): { path: string } | undefined {
  const name = /^0::(\/.*)$/m.exec(host.own())?.[1];
  const mount = cgroup2Mount(host.mounts());
  if (name === undefined || mount === undefined) return undefined;
  return { path: join(mount, name) };
}

/** Where cgroup2 is mounted (proc_pid_mountinfo(5)): the fifth field is the place, the one after the dash is the type. */
function cgroup2Mount(mountinfo: string): string | undefined {
  for (const line of mountinfo.split("\n")) {
    const [before = "", after = ""] = line.split(" - ");
    if (after.startsWith("cgroup2 ")) return before.split(" ")[4];
  }
  return undefined;
}

/** What a reason begins with that is about the cgroup in which this process was started. */
const OF_OWN = "of the cgroup of this process:";

/** The cgroup of this process if it was delegated, else the reason why it is not used, which fits after "because". */
function delegatedRoot(own: string, host: CgroupHost): { path: string; mayEnable: boolean } | string {
  // An agent that was started from a process of an earlier one is in its leaf.
  const path = basename(own) === AGENT_LEAF ? dirname(own) : own;
  const unfit = whyNotKillable(path);
  if (unfit !== undefined) return `${OF_OWN} ${unfit}`;
  const isOfSystemd = /\.(?:service|scope)$/.test(path);
  if (isOfSystemd && !host.isDelegatedUnit(path)) return `${basename(path)} has no Delegate=yes`;
  const obstacle = obstacleIn(path);
  if (obstacle !== undefined) return `${OF_OWN} ${obstacle}`;
  return { path, mayEnable: !isOfSystemd };
}

function obstacleIn(path: string): string | undefined {
  try {
    accessSync(path, constants.W_OK | constants.X_OK);
    accessSync(join(path, "cgroup.procs"), constants.W_OK);
    return undefined;
  } catch {
    return "this user may not write to it, or it is mounted read-only";
  }
}

/**
 * systemd starts the next agent in the cgroup of its service, and cannot while controllers are enabled there for leaves of live runs: the
 * start fails with EBUSY (219/CGROUP). So none is enabled there, unless a path orders it.
 */
const NOT_UNDER_SYSTEMD =
  "under systemd they would prevent a restart of the service while runs are alive (see docs/deploy.md, Limits)";

function whyNone(mayEnable: boolean): string | undefined {
  return mayEnable ? undefined : NOT_UNDER_SYSTEMD;
}

function prepare({ path, own, mayEnable }: FoundRoot): CgroupRoot {
  const obstacle = mayEnable ? enableControllers(path, own) : undefined;
  return describe(path, "cgroup.subtree_control", obstacle ?? whyNone(mayEnable));
}

/** The root with the controllers that this file of it lists; `why` is the reason for a missing one, if it is known. */
function describe(path: string, file: string, why: string | undefined): CgroupRoot {
  const listed = new Set((readCgroupFile(path, file) ?? "").trim().split(" "));
  const controllers = new Set(CONTROLLERS.filter((name) => listed.has(name)));
  const missing = CONTROLLERS.filter((name) => !controllers.has(name));
  if (missing.length === 0) return { path, controllers, why: undefined };
  const notPassed = `the host does not pass the controllers ${missing.join(", ")} to this cgroup`;
  return { path, controllers, why: why ?? notPassed };
}

/** Enables what exists. Returns why that is not possible, in words that fit after "because". */
function enableControllers(path: string, own: string | undefined): string | undefined {
  const available = new Set((readCgroupFile(path, "cgroup.controllers") ?? "").trim().split(" "));
  const wanted = CONTROLLERS.filter((name) => available.has(name));
  if (wanted.length === 0) return undefined;
  try {
    if (own === path) moveAll(path, join(path, AGENT_LEAF));
    // Not tried while a process is in it: the kernel would enable cpu and pids all the same, and then lets nothing enter a leaf.
    if (processesDirectlyIn(path).length > 0) return "processes are in it, outside of its leaves";
    for (const name of wanted) writeCgroupFile(path, "cgroup.subtree_control", `+${name}`);
    return undefined;
  } catch (error) {
    return `the kernel refuses to enable them (${(error as NodeJS.ErrnoException).code ?? String(error)})`;
  }
}

/** How often to look for processes that were started while others were moved. */
const MOVE_ROUNDS = 5;

/** Moves all processes of a cgroup: also the runs that an agent without leaves has started there. */
function moveAll(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (let round = 0; round < MOVE_ROUNDS; round++) {
    const pids = processesDirectlyIn(from);
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        writeCgroupFile(to, "cgroup.procs", pid);
      } catch (error) {
        // It has ended.
        if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
      }
    }
  }
}

function processesDirectlyIn(cgroup: string): string[] {
  return (readCgroupFile(cgroup, "cgroup.procs") ?? "").split("\n").filter(Boolean);
}

function isDelegatedUnit(cgroup: string): boolean {
  const manager = cgroup.includes("/user@") ? ["--user"] : [];
  const args = [...manager, "show", "--property=Delegate", "--value", "--", basename(cgroup)];
  try {
    const output = execFileSync("systemctl", args, {
      encoding: "utf8",
      timeout: 3_000,
      stdio: ["ignore", "pipe", "ignore"],
    });
    return output.trim() === "yes";
  } catch {
    return false;
  }
}
