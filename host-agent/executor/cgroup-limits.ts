import { writeCgroupFile } from "./cgroup-files.ts";

/** What a run may use at most; a property that is undefined has no limit. */
export interface RunLimits {
  /** Bytes. */
  memoryMax?: number | undefined;
  /** Cores; fractions are allowed. */
  cpuMax?: number | undefined;
  /** Processes and threads, the wrapper's included. */
  pidsMax?: number | undefined;
}

/** A controller of the kernel that enforces a limit. */
export type Controller = "memory" | "cpu" | "pids";

/** Which controller enforces a limit, and its name in a recipe and as a setting. */
export const LIMITS: readonly {
  of: keyof RunLimits;
  controller: Controller;
  field: string;
  setting: string;
}[] = [
  { of: "memoryMax", controller: "memory", field: "memory_max", setting: "HUB_MEMORY_MAX" },
  { of: "cpuMax", controller: "cpu", field: "cpu_max", setting: "HUB_CPU_MAX" },
  { of: "pidsMax", controller: "pids", field: "pids_max", setting: "HUB_PIDS_MAX" },
];

/** The limits that are set, and that none of these controllers enforces. */
export function unenforceable(limits: RunLimits, controllers: ReadonlySet<Controller>) {
  return LIMITS.filter(({ of, controller }) => limits[of] !== undefined && !controllers.has(controller));
}

/** The kernel's default period, and the least quota that it takes in one, in microseconds. */
const CPU_PERIOD_USEC = 100_000;
const LEAST_CPU_QUOTA_USEC = 1_000;

/** Writes limits into an empty leaf. Throws the errno of the kernel. */
export function writeLimits(leaf: string, { memoryMax, cpuMax, pidsMax }: RunLimits): void {
  if (memoryMax !== undefined) writeCgroupFile(leaf, "memory.max", String(memoryMax));
  if (cpuMax !== undefined) {
    const quota = Math.max(Math.round(cpuMax * CPU_PERIOD_USEC), LEAST_CPU_QUOTA_USEC);
    writeCgroupFile(leaf, "cpu.max", `${quota} ${CPU_PERIOD_USEC}`);
  }
  if (pidsMax !== undefined) writeCgroupFile(leaf, "pids.max", String(pidsMax));
}
