import type { NewRun, Run } from "../../host-agent/store/run.ts";

let count = 0;

/** A launch as the store records it: of a script, by the key `k`, with an id of its own unless told otherwise. */
export function newRun(given: Partial<NewRun> = {}): NewRun {
  const runId = given.runId ?? `run_${String(++count).padStart(12, "0")}`;
  return {
    runId,
    source: "script",
    spec: { path: "/a.sh", args: "" },
    cmd: "/a.sh",
    logPath: "/a.log",
    keyName: "k",
    specSha256: undefined,
    label: undefined,
    startedAt: Date.now(),
    fingerprint: "f",
    launcher: { pid: 1, startTime: "1", bootId: "b" },
    timeoutSeconds: undefined,
    logLimit: undefined,
    launchToken: runId,
    callbackUrl: undefined,
    ...given,
  };
}

/** A run that is alive, decoded, without a database behind it. */
export function liveRun(given: Partial<Run> = {}): Run {
  const { callbackUrl: _none, ...launched } = newRun();
  return {
    ...launched,
    seq: 1,
    status: "running",
    statusReason: "The process is alive.",
    exitCode: undefined,
    signal: undefined,
    endedAt: undefined,
    process: undefined,
    stop: undefined,
    logFile: undefined,
    ...given,
  };
}
