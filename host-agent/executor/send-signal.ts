import { execFile } from "node:child_process";
import { promisify } from "node:util";

import { readStat } from "./process-identity.ts";

/** The user and group of a run. */
export interface Owner {
  uid: number;
  gid: number;
}

/** A process that is to get a signal, or with a negative pid the process group that it leads. */
export interface Target {
  pid: number;
  /** The start time of the process with this pid: another one that has the pid by now gets nothing. */
  startTime: string;
}

export type Sent = "sent" | "gone" | "refused";
export type SignalName = "SIGTERM" | "SIGINT" | "SIGKILL" | "SIGCONT";

/** Sends a signal to each of the targets, with the rights of this process. */
export function sendSignal(targets: readonly Target[], signal: SignalName): Sent[] {
  return targets.map(({ pid, startTime }) => {
    if (readStat(Math.abs(pid))?.startTime !== startTime) return "gone";
    try {
      process.kill(pid, signal);
      return "sent";
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ESRCH") return "gone";
      // A process of another user, as sudo(8) makes one: that is no reason to spare the others.
      if (code === "EPERM") return "refused";
      throw error;
    }
  });
}

/** SIGNAL, and then PID and START_TIME of each target. Answers a line for each. The name of a process may contain newlines. */
const SEND = `
start_of() { [ $# -gt 19 ] && shift 19 && found=$1; }
set -f
signal=$1
shift
while [ $# -gt 1 ]; do
  stat= found= said=
  { while IFS= read -r line || [ -n "$line" ]; do stat=$stat$line; done <"/proc/\${1#-}/stat"; } 2>/dev/null
  start_of \${stat##*) }
  if [ "$found" != "$2" ]; then echo gone
  elif said=$(kill -s "$signal" -- "$1" 2>&1); then echo sent
  else case $said in *permitted*) echo refused ;; *) echo gone ;; esac
  fi
  shift 2
done`;
const HELPER_TIMEOUT_MS = 2_000;
const HELPER_TRIES = 3;

/**
 * The same with the rights of another user, for an agent that runs as root: whatever has become of a pid since anybody
 * looked, the kernel then refuses to signal what is not that user's. The user's other processes can end or stop the helper:
 * it is tried again, and has a time limit. Throws when a target got no answer.
 */
export async function sendSignalAs(
  { uid, gid }: Owner,
  targets: readonly Target[],
  signal: SignalName,
): Promise<Sent[]> {
  const words = targets.flatMap(({ pid, startTime }) => [String(pid), startTime]);
  const sent: Sent[] = [];
  for (let tries = 0; tries < HELPER_TRIES && sent.length < targets.length; tries++) {
    const args = ["-c", SEND, "sh", signal.slice(3), ...words.slice(sent.length * 2)];
    const limits = { timeout: HELPER_TIMEOUT_MS, killSignal: "SIGKILL" as const };
    const output = await promisify(execFile)("/bin/sh", args, {
      uid,
      gid,
      cwd: "/",
      env: {},
      ...limits,
    }).then(
      ({ stdout }) => stdout,
      ({ stdout }: { stdout?: string }) => stdout ?? "",
    );
    sent.push(...(output.split("\n").filter((line) => /^(?:sent|gone|refused)$/.test(line)) as Sent[]));
  }
  if (sent.length < targets.length) throw new Error(`${signal} was not sent to all processes of the run`);
  return sent;
}
