import type { Executor } from "../executor/executor.ts";
import { ApiProblem } from "../protocol/problem.ts";
import type { Reach } from "../protocol/reach.ts";
import type { KillOrder, RunRecord, Source } from "../protocol/run.ts";
import type { Run } from "../store/run.ts";
import { after, type Clock } from "../system/clock.ts";
import type { FindRun } from "./find.ts";
import { handleOf } from "./handle.ts";
import { publicRun } from "./record.ts";
import type { CarryOut } from "./stop.ts";

export interface KillDeps {
  executor: Executor;
  clock: Clock;
  find: FindRun;
  reconcile(run: Run): Promise<Run>;
  carryOut: CarryOut;
}

/** Kills a run as a client orders it. Throws `run_ended` for one that ended by itself, and `host_unavailable` for one that another agent is starting. */
export function createKill({ executor, clock, find, reconcile, carryOut }: KillDeps) {
  return async (
    source: Source,
    runId: string,
    order: KillOrder,
    keyName: string,
    reach?: Reach,
  ): Promise<RunRecord> => {
    const found = await find(source, runId, reach);
    if (found.endedAt === undefined) await executor.ready(handleOf(found));
    const { signal, grace_seconds: grace } = order;
    const deadline = grace === undefined ? undefined : after(clock(), grace * 1000);
    const event = { type: "kill", signal, keyName, deadline } as const;
    const { run, decision } = await carryOut(await reconcile(found), event);
    if (decision.do === "nothing" && run.status === "killed") return publicRun(run);
    if (decision.do === "refuse") throw decision.why === "ended" ? runEnded(run) : stillLaunching(run);
    if (signal === "SIGKILL") await executor.kill(handleOf(run));
    const current = await reconcile(run);
    if (current.status !== "killed") throw runEnded(current);
    return publicRun(current);
  };
}

/** Another agent on this state folder is starting it: nothing of it can be signalled yet, and nothing is recorded. */
function stillLaunching({ runId }: Run): ApiProblem {
  return new ApiProblem("host_unavailable", `${runId} is being started at this moment; kill it again`, {
    retryAfterSeconds: 1,
  });
}

function runEnded(run: Run): ApiProblem {
  return new ApiProblem("run_ended", `${run.runId} has already ended by itself: it is ${run.status}`);
}
