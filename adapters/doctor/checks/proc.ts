import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";

import { isOfRun, runEnvironment, unreadableProcFile } from "../../../host-agent/inspection.ts";
import { type Check, fail, pass, warn } from "../finding.ts";

const MOUNT_ADVICE = "The service needs Linux with /proc mounted; in a container do not mask it.";

/** /proc, which every status and every kill depends on. */
export const proc: Check = {
  name: "/proc",
  async look() {
    const unreadable = unreadableProcFile();
    if (unreadable !== undefined) return [fail(`${unreadable} cannot be read.`, MOUNT_ADVICE)];
    return [
      pass("/proc shows the processes and the boot id."),
      (await seesEnvironmentOfChild())
        ? pass("The environment of a child process can be read, so a kill finds the daemons of a run.")
        : fail("The environment of a child process cannot be read: a kill would miss daemons.", MOUNT_ADVICE),
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
      "A run that changes its user escapes a kill. Runs with the user of the service are not affected.",
    ),
  ];
}
