import { readFileSync } from "node:fs";

import { expect, test } from "vitest";

import { commandLine, processesOf } from "../../../host-agent/executor/process-tree.ts";
import { markedRunOf, markOf } from "../../../host-agent/executor/run-mark.ts";
import { until } from "../../support/hub.ts";
import { bash, forEachWrapper, realRun } from "./real-run.ts";

/** A daemon in a separate session, orphaned, that writes over its environment as setproctitle(3) of redis-server and nginx does. */
const SETPROCTITLE = `
import ctypes, os, re, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
libc = ctypes.CDLL(None)
fields = open("/proc/self/stat").read().rsplit(")", 1)[1].split()
start, end = int(fields[47]), int(fields[48])
ctypes.memset(start, 32, end - start)
assert b"HUB_RUN_ID" not in open("/proc/self/environ", "rb").read()
open("daemon", "w").write(str(os.getpid()))
time.sleep(600)
`;
/** The same, whose environment nobody else may read, as ssh-agent's. */
const NOT_DUMPABLE = `
import ctypes, os, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
open("daemon", "w").write(str(os.getpid()))
time.sleep(600)
`;

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}

forEachWrapper(() => {
  test.for([
    ["that writes over its environment", SETPROCTITLE],
    ["that is not dumpable", NOT_DUMPABLE],
  ])("a daemon %s is found and killed", async ([, program]) => {
    const run = await realRun(
      bash(`env -i PATH="$PATH" python3 -c "$1" </dev/null >/dev/null 2>&1; sleep 600`, program!),
    );
    const pid = await until(() => Number(read(`${run.folder.path}/../../daemon`)) || undefined);
    expect(processesOf(run.runId).map((stat) => stat.pid)).toContain(pid);
    expect(await run.signals.signal(run.handle, "SIGTERM")).toBe("sent");
    await until(() => commandLine(pid) === "" || undefined);
    await until(() => processesOf(run.runId).length === 0 || undefined);
  });

  test("a mark is one run's, and no limit that anybody sets is a mark", () => {
    expect(markOf("run_0123456789ab")).toBe("1152922755606743467");
    expect(markOf("run_ffffffffffff")).not.toBe(markOf("run_fffffffffffe"));
    for (const id of ["run_x", "", "run_0123456789abc", "probe"]) expect(markOf(id)).toBeUndefined();
    expect(markedRunOf(process.pid)).toBeUndefined();
    expect(markedRunOf(4_194_304)).toBeUndefined();
  });

  test("every process of a run has its mark, also after changes of environment, session and parent", async () => {
    const run = await realRun(
      bash("env -i setsid bash -c '(echo ready; exec -a other sleep 60) & wait' & sleep 60"),
    );
    await run.says("ready");
    const members = processesOf(run.runId);
    expect(members.length).toBeGreaterThanOrEqual(5);
    for (const { pid } of members) expect(markedRunOf(pid), commandLine(pid)).toBe(run.runId);
  });
});
