import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

import { processState, startTimeOf, unreadableProcFile } from "../../../host-agent/inspection.ts";
import { type Check, type Finding, pass, warn } from "../finding.ts";

const run = promisify(execFile);
/** Some init programs look for orphans every few seconds only. */
const LOOKS = 80;
const LOOK_INTERVAL_MS = 50;

/** The host around the service: whether orphans are reaped, and whether a stop of the service ends its runs. */
export const host: Check = {
  name: "Host",
  async look({ env }) {
    // Without /proc nothing can be seen here; the check of /proc reports that.
    if (unreadableProcFile() !== undefined) return [];
    return [await reaping(), ...(await systemd(env["INVOCATION_ID"]))];
  },
};

/** A process whose parent has ended becomes a child of PID 1, which must collect its exit code. */
async function reaping(): Promise<Finding> {
  const { stdout } = await run("/bin/sh", ["-c", "sleep 0.05 >/dev/null 2>&1 & echo $!"], {
    env: { PATH: "/usr/bin:/bin" },
  });
  const pid = Number(stdout);
  const start = startTimeOf(pid);
  for (let looks = 0; processState(pid, start) !== "gone" && looks < LOOKS; looks++) {
    await sleep(LOOK_INTERVAL_MS);
  }
  if (processState(pid, start) !== "zombie") return pass("Ended orphans are reaped.");
  return warn(
    "PID 1 does not reap ended orphans: zombies collect until no process can start.",
    "Start the container with --init (docker run --init), or use tini as its entry point.",
  );
}

/** Under systemd a stop of the unit also ends the runs, unless KillMode says otherwise. */
async function systemd(invocation: string | undefined): Promise<Finding[]> {
  const unit = /([^/\n]+\.service)\b/.exec(readFileSync("/proc/self/cgroup", "utf8"))?.[1];
  if (invocation === undefined || unit === undefined) return [];
  const answer = await run("systemctl", ["show", "-p", "KillMode", "--value", unit], {
    timeout: 2_000,
  }).catch(() => undefined);
  const mode = answer?.stdout.trim();
  if (mode === undefined || mode === "") return [];
  return [
    mode === "process" || mode === "none"
      ? pass(`A stop of ${unit} does not end the runs (KillMode=${mode}).`)
      : warn(
          `A stop of ${unit} also ends all runs (KillMode=${mode}).`,
          "Set KillMode=process in the unit, as the one in host-agent/systemd does.",
        ),
  ];
}
