import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";

import { isOfRun, runEnvironment, unreadableProcFile } from "../../../host-agent/inspection.ts";
import { type Check, fail, pass, warn } from "../finding.ts";

const MOUNT_ADVICE = "The service needs Linux with /proc mounted; in a container, do not mask it.";

/** Liveness and kill read /proc: without it every status would be a guess. */
export const proc: Check = {
  name: "/proc",
  async look() {
    const unreadable = unreadableProcFile();
    if (unreadable !== undefined) return [fail(`${unreadable} cannot be read.`, MOUNT_ADVICE)];
    return [
      pass("/proc tells of processes, and of this boot."),
      (await seesEnvironmentOfChild())
        ? pass("The environment of a child can be read, so kill finds a run's daemons.")
        : fail("The environment of a child cannot be read: kill would miss daemons.", MOUNT_ADVICE),
      ...hiding(),
    ];
  },
};

async function seesEnvironmentOfChild(): Promise<boolean> {
  const child = spawn("/bin/sleep", ["10"], { env: runEnvironment("doctor"), stdio: "ignore" });
  try {
    await once(child, "spawn");
    return isOfRun(child.pid!, "doctor");
  } catch {
    return false;
  } finally {
    child.kill("SIGKILL");
  }
}

function hiding() {
  const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n");
  const options = mounts.find((line) => line.split(" ")[1] === "/proc")?.split(" ")[3] ?? "";
  if (!/hidepid=(?!0|off)/.test(options) || process.getuid?.() === 0) return [];
  return [
    warn(
      "/proc hides the processes of other users (hidepid).",
      "That is well as long as runs have the user of the service; a run that changes its user escapes kill.",
    ),
  ];
}
