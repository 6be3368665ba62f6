import { closeSync, constants, openSync } from "node:fs";

import type { Started } from "./executor.ts";
import { launchProblem } from "./command.ts";
import { startRun, type StartOptions, type StartParts } from "./start-run.ts";

/** As for `startRun`, with the way into the cgroup as a path: a descriptor cannot be sent to the spawner. */
export interface StartInCgroup extends Omit<StartOptions, "cgroupFd"> {
  /** The `cgroup.procs` of the run's cgroup; undefined for no cgroup. */
  cgroupProcs: string | undefined;
}

/**
 * Starts a command as `startRun` does, in a cgroup. The descriptor is opened here, with the rights of the agent: they count when
 * the wrapper writes to it, as whichever user it runs.
 */
export async function startInCgroup(
  command: Parameters<typeof startRun>[0],
  { cgroupProcs, ...options }: StartInCgroup,
  parts: StartParts = {},
): Promise<Started> {
  if (cgroupProcs === undefined) return startRun(command, options, parts);
  let cgroupFd: number;
  try {
    cgroupFd = openSync(cgroupProcs, constants.O_WRONLY);
  } catch (error) {
    throw launchProblem(error);
  }
  try {
    return await startRun(command, { ...options, cgroupFd }, parts);
  } finally {
    closeSync(cgroupFd);
  }
}
